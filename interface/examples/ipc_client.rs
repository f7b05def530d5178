//! Asks `ipc_server` for ten squares, checks them, and ends. See there.

#[cfg(loom)]
fn main() {}

#[cfg(not(loom))]
fn main() -> std::process::ExitCode {
    match ask() {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ipc_client: {error}");
            std::process::ExitCode::FAILURE
        }
    }
}

#[cfg(not(loom))]
fn ask() -> Result<(), Box<dyn std::error::Error>> {
    use memenpsf::{Interface, Options};
    use std::time::Duration;

    let mut arguments = std::env::args_os().skip(1);
    let address = match (arguments.next(), arguments.next()) {
        (None, _) => "@memenpsf-example".into(),
        (Some(address), None) if !address.as_encoded_bytes().starts_with(b"-") => address,
        _ => return Err("usage: ipc_client [PATH | @NAME]".into()),
    };
    let options = Options::new()
        .name("ipc_client")
        .schema("squares/v1")
        .wait_for_server(Duration::from_secs(30));
    let mut interface = Interface::<[u64; 2]>::connect_with(address, &options)?;
    let peer = interface.peer();
    println!(
        "connected to `{}`, user {}",
        peer.name(),
        peer.credentials().uid
    );
    for n in 1..=10 {
        interface.xmit([n, 0])?;
        let answer = loop {
            match interface.recv()? {
                Some(answer) => break answer,
                None => std::thread::yield_now(),
            }
        };
        if answer != [n, n * n] {
            return Err(format!("asked for the square of {n}, received {answer:?}").into());
        }
        println!("{n} squared is {}", answer[1]);
    }
    Ok(())
}
