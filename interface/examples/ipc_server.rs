//! Answers one client with squares, and ends when the client does.
//!
//! In one terminal, then `ipc_client` in another, in either order:
//!
//! ```text
//! cargo run --release -p memenpsf --example ipc_server
//! cargo run --release -p memenpsf --example ipc_client
//! ```
//!
//! The address is the first argument, `@memenpsf-example` without one.

#[cfg(loom)]
fn main() {}

#[cfg(not(loom))]
fn main() -> std::process::ExitCode {
    match serve() {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ipc_server: {error}");
            std::process::ExitCode::FAILURE
        }
    }
}

#[cfg(not(loom))]
fn serve() -> Result<(), Box<dyn std::error::Error>> {
    use memenpsf::{Departure, Interface, Options, RecvError};
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixListener};

    let address = std::env::args().nth(1);
    let address = address.as_deref().unwrap_or("@memenpsf-example");
    let listener = match address.strip_prefix('@') {
        Some(name) => UnixListener::bind_addr(&SocketAddr::from_abstract_name(name)?)?,
        None => UnixListener::bind(address)?,
    };
    println!("waiting for a client at {address}");
    let (stream, _) = listener.accept()?;
    if !address.starts_with('@') {
        // One client only: nobody else is to find the socket.
        std::fs::remove_file(address)?;
    }

    let options = Options::new().name("ipc_server").schema("squares/v1");
    let mut interface = Interface::<[u64; 2]>::accept_with(stream, &options)?;
    let peer = interface.peer();
    println!("client `{}`, user {}", peer.name(), peer.credentials().uid);
    loop {
        match interface.recv() {
            Ok(Some([n, _])) => interface.xmit([n, n * n])?,
            Ok(None) => std::thread::yield_now(),
            Err(RecvError::Closed(Departure::Closed)) => break,
            Err(error) => return Err(error.into()),
        }
    }
    println!(
        "the client is done after {} messages",
        interface.stats().received
    );
    Ok(())
}
