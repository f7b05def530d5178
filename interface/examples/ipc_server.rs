//! Answers clients with squares, all of them in one thread.
//!
//! In one terminal, then `ipc_client` in others, in any order:
//!
//! ```text
//! cargo run --release -p memenpsf --example ipc_server
//! cargo run --release -p memenpsf --example ipc_client
//! ```
//!
//! The address is the first argument, `@memenpsf-example` without one. The second
//! is the number of clients to serve; without one the server goes on until it is
//! interrupted (SIGINT or SIGTERM).

#[cfg(loom)]
fn main() {}

#[cfg(not(loom))]
fn main() -> std::process::ExitCode {
    match squares::serve() {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ipc_server: {error}");
            std::process::ExitCode::FAILURE
        }
    }
}

#[cfg(not(loom))]
mod squares {
    use std::collections::HashMap;
    use std::error::Error;
    use std::os::fd::AsFd;
    use std::time::Duration;

    use memenpsf::{Event, Interest, Interface, Options, Server, ServerOptions, XmitError};
    use nix::errno::Errno;
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    use nix::sys::signal::{SigSet, Signal};
    use nix::sys::signalfd::{SfdFlags, SignalFd};

    pub(super) fn serve() -> Result<(), Box<dyn Error>> {
        let mut arguments = std::env::args_os().skip(1);
        let (address, limit) = match (arguments.next(), arguments.next(), arguments.next()) {
            (None, ..) => ("@memenpsf-example".into(), None),
            (Some(address), limit, None) if !address.as_encoded_bytes().starts_with(b"-") => {
                (address, limit)
            }
            _ => return Err("usage: ipc_server [PATH | @NAME [CLIENTS]]".into()),
        };
        let mut left = match limit {
            None => usize::MAX,
            Some(limit) => match limit.to_str().map(str::parse) {
                Some(Ok(limit)) => limit,
                _ => return Err("the number of clients is no number".into()),
            },
        };

        // Both become a descriptor, to wait for beside the server's. Before the
        // server is there, so that none of them leaves its socket file behind.
        let mut signals = SigSet::empty();
        signals.add(Signal::SIGINT);
        signals.add(Signal::SIGTERM);
        signals.thread_block()?;
        let signals =
            SignalFd::with_flags(&signals, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)?;

        let connection = Options::new().name("ipc_server").schema("squares/v1");
        let options = ServerOptions::new().connection(connection);
        let mut server = Server::<[u64; 2]>::bind_with(&address, &options)?;
        println!("waiting for clients at {}", address.display());

        // Answers for which there was no room.
        let mut unsent = HashMap::new();
        while left > 0 && signals.read_signal()?.is_none() {
            match server.poll(Some(Duration::ZERO))? {
                Some(Event::Connected(id)) => {
                    let Some(client) = server.client(id) else {
                        continue;
                    };
                    let peer = client.peer();
                    let (name, user) = (peer.name(), peer.credentials().uid);
                    println!("{id} is `{name}`, user {user}");
                }
                Some(Event::Ready(id, _)) => {
                    let Some(client) = server.client(id) else {
                        continue;
                    };
                    let interest = answer(client, unsent.entry(id).or_default());
                    server.set_interest(id, interest);
                }
                Some(Event::Gone(id, end)) => {
                    let received = server
                        .client(id)
                        .map_or(0, |client| client.stats().received);
                    println!("{id}: {end}, after {received} messages");
                    unsent.remove(&id);
                    left -= 1;
                }
                Some(Event::Failed(who, error)) => {
                    eprintln!("ipc_server: user {} is not served: {error}", who.uid);
                }
                // Everybody is served: sleep until there is something to do.
                None => wait(&server, &signals)?,
                Some(_) => {}
            }
        }
        // Dropping the server says goodbye and removes the socket file.
        Ok(())
    }

    /// Answers what a client has asked, and returns what to wait for then.
    fn answer(client: &mut Interface<[u64; 2]>, unsent: &mut Option<[u64; 2]>) -> Interest {
        // A part of it, so that the others have their turn; what is left comes again.
        for _ in 0..256 {
            if let Some(answer) = unsent.take()
                && let Err(XmitError::Full(answer)) = client.xmit(answer)
            {
                // It does not receive: its own questions wait until it does.
                *unsent = Some(answer);
                return Interest::SPACE;
            }
            match client.recv() {
                // The client chooses the number: its square may be too large.
                Ok(Some([n, _])) => *unsent = Some([n, n.wrapping_mul(n)]),
                // How it has ended, if it has, is told by an event.
                Ok(None) | Err(_) => break,
            }
        }
        Interest::DATA
    }

    fn wait(server: &Server<[u64; 2]>, signals: &SignalFd) -> Result<(), Errno> {
        let readable = |fd| PollFd::new(fd, PollFlags::POLLIN);
        let mut fds = [readable(server.as_fd()), readable(signals.as_fd())];
        match poll(&mut fds, PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(errno) => Err(errno),
        }
    }
}
