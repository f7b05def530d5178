//! The committed kill matrix, kills.md: one table a subject, one row a defect, one
//! column a model. In the tables of the rings, the last column is ThreadSanitizer's.
//! Its control fills and compares that one, and the loom models the others, each
//! without a look at the other's.

use crate::sites::Subject;

/// The committed matrix.
pub const MATRIX: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/kills.md");

/// The row of what ships.
pub const SHIPPED: &str = "Shipped";

/// The title of ThreadSanitizer's column.
pub const SANITIZER: &str = "ThreadSanitizer";

/// What stands in a cell.
pub fn cell(killed: bool) -> &'static str {
    if killed { "killed" } else { "" }
}

/// Returns where in `matrix` the last cell of a row lies, if there is such a row.
fn last_cell(matrix: &str, subject: Subject, row: &str) -> Option<std::ops::Range<usize>> {
    let table = matrix.find(&format!("\n## {subject}\n"))?;
    let line = table + matrix[table..].find(&format!("\n| {row} |"))? + 1;
    let end = line + matrix[line..].find(" |\n")?;
    let start = matrix[..end].rfind("| ")? + 2;
    Some(start..end)
}

/// Returns what ThreadSanitizer's column of `matrix` says of a row, and nothing if
/// there is none.
pub fn sanitizer<'a>(matrix: &'a str, subject: Subject, row: &str) -> &'a str {
    last_cell(matrix, subject, row).map_or("", |cell| &matrix[cell])
}

/// Sets a cell of that column.
///
/// # Panics
///
/// When there is no such row.
pub fn set_sanitizer(matrix: &mut String, subject: Subject, row: &str, killed: bool) {
    let place = last_cell(matrix, subject, row).expect("a row of the matrix");
    matrix.replace_range(place, cell(killed));
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn last_cell_is_that_of_the_row_in_its_table() {
        let mut matrix = String::from(
            "\n## index ring\n\n| | a | b |\n|---|---|---|\n| X | killed |  |\n| Y |  | killed |\n\
             \n## packed ring\n\n| | a | b |\n|---|---|---|\n| X |  | killed |\n",
        );
        assert_eq!(sanitizer(&matrix, Subject::Index, "X"), "");
        assert_eq!(sanitizer(&matrix, Subject::Packed, "X"), "killed");
        assert_eq!(sanitizer(&matrix, Subject::Bytes, "X"), "");
        set_sanitizer(&mut matrix, Subject::Index, "X", true);
        set_sanitizer(&mut matrix, Subject::Packed, "X", false);
        assert!(matrix.contains("| X | killed | killed |\n| Y |  | killed |\n"));
        assert!(matrix.ends_with("| X |  |  |\n"));
    }
}
