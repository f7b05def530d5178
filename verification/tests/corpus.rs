//! The fuzz targets' bodies over the corpus that is in the repository, so that
//! what a fuzzer once found is run by every `cargo test`.

#![cfg(not(loom))]

use std::fs;
use std::path::Path;

use memenpsf_verification::operations;

#[test]
fn ring_operations_pass_over_the_corpus() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus/ring_operations");
    let mut files = 0;
    for file in fs::read_dir(corpus).unwrap() {
        let path = file.unwrap().path();
        println!("{}", path.display());
        operations::run_bytes(&fs::read(&path).unwrap());
        files += 1;
    }
    assert!(files >= 5, "the corpus is in the repository");
}
