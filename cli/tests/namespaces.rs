//! `memenpsf connect` and `memenpsf serve` with namespaces between them, as between a
//! container and its host.
//!
//! What is inside has mount, pid, network and user namespaces of its own, a user
//! other than root, no capabilities, and the folder of the socket mounted read-only.
//! `unshare` of util-linux makes all that without privileges; where the machine does
//! not allow it, the tests say why and pass.

#![cfg(not(loom))]
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod common;

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Stdio};

use common::service::Service;
use common::{Ended, Running, memenpsf};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// The namespaces that containers have of their own.
const ALL: [&str; 4] = ["mnt", "pid", "net", "user"];
/// The user inside.
const USER: u32 = 10_001;

/// Mounts the folder `$1` read-only at `$2`, gives all rights up, and becomes the rest
/// of the arguments. A user namespace in the other one has what the first needed for
/// the mount no more.
const ENTER: &str = r#"
mount --bind "$1" "$2"
mount -o remount,bind,ro "$2"
shift 2
exec unshare --user --map-user=10001 sh -ec '
    for name in mnt pid net user; do readlink "/proc/self/ns/$name"; done
    id -u
    grep ^CapEff: /proc/self/status
    exec "$@"
' sh "$@"
"#;

/// What [`ENTER`] prints before it becomes the command.
#[derive(Debug)]
struct Place {
    namespaces: Vec<String>,
    user: u32,
    capabilities: String,
}

/// A folder, and where it is mounted for those inside.
struct Mount<'a> {
    outside: &'a Path,
    inside: &'a Path,
}

impl Mount<'_> {
    /// Makes a command that runs `program` in `namespaces` of its own.
    fn command(&self, namespaces: &[&str], program: &[&str]) -> Command {
        let mut command = Command::new("unshare");
        // Whoever kills `unshare` kills what is inside.
        command.args(["--fork", "--kill-child", "--map-root-user"]);
        command.args(namespaces.iter().map(|name| match *name {
            "mnt" => "--mount".to_string(),
            name => format!("--{name}"),
        }));
        command
            .args(["sh", "-ec", ENTER, "sh"])
            .args([self.outside, self.inside])
            .args(program)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Runs `memenpsf` with these arguments in `namespaces` of its own.
    fn memenpsf(&self, namespaces: &[&str], arguments: &[&str]) -> Running {
        let program = [&[env!("CARGO_BIN_EXE_memenpsf")], arguments].concat();
        Running::start(&mut self.command(namespaces, &program))
    }
}

/// Says why this machine has no namespaces for its users, if it has none.
fn refusal() -> Option<String> {
    let (outside, inside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mount = Mount {
        outside: outside.path(),
        inside: inside.path(),
    };
    match mount.command(&ALL, &["true"]).output() {
        Ok(output) if output.status.success() => None,
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            Some(said.lines().next().unwrap_or("unshare failed").to_string())
        }
        Err(error) => Some(format!("unshare: {error}")),
    }
}

/// Returns from the test, with the reason, where the machine does not allow it.
macro_rules! needs_namespaces {
    ($what:literal) => {
        if let Some(why) = refusal() {
            println!("skipped: {}: {why}", $what);
            return;
        }
    };
}

/// Separates what [`ENTER`] has printed from what the command has.
#[track_caller]
fn split(ended: &Ended) -> (Place, String) {
    let said = String::from_utf8(ended.stdout.clone()).unwrap();
    let lines: Vec<&str> = said.lines().collect();
    assert!(lines.len() >= ALL.len() + 2, "{ended:?}");
    let (namespaces, rest) = lines.split_at(ALL.len());
    let place = Place {
        namespaces: namespaces.iter().map(ToString::to_string).collect(),
        user: rest[0].parse().unwrap(),
        capabilities: rest[1].trim_start_matches("CapEff:").trim().to_string(),
    };
    (place, rest[2..].join("\n"))
}

/// Asserts that someone was in other namespaces than the test in all but `shared`, and
/// had no rights there.
#[track_caller]
fn assert_apart(place: &Place, shared: &[&str]) {
    for (name, theirs) in ALL.iter().zip(&place.namespaces) {
        let ours = fs::read_link(format!("/proc/self/ns/{name}")).unwrap();
        let same = ours.to_str() == Some(theirs);
        assert_eq!(same, shared.contains(name), "{name} {theirs}");
    }
    assert_eq!(place.user, USER);
    assert_eq!(place.capabilities, "0".repeat(16));
}

/// The user that runs the tests.
fn user() -> u32 {
    fs::metadata("/proc/self").unwrap().uid()
}

#[test]
fn client_in_namespaces_of_its_own_reaches_the_server_through_a_mounted_folder() {
    needs_namespaces!("a client in namespaces of its own");
    let service = Service::start(&[]);
    let folder = tempfile::tempdir().unwrap();
    let mount = Mount {
        outside: Path::new(&service.socket).parent().unwrap(),
        inside: folder.path(),
    };
    let socket = folder.path().join("socket");
    let arguments = [
        "connect",
        socket.to_str().unwrap(),
        "--messages",
        "20000",
        "--name",
        "inside",
    ];
    let client = mount.memenpsf(&ALL, &arguments);
    let ended = client.end();
    ended.success();
    let (place, said) = split(&ended);
    assert_apart(&place, &[]);
    // The number of the server's process means nothing to the client.
    let first = format!(
        "40000 messages of 64 bytes to `memenpsf serve` \
         (user {USER}, a process of another namespace) and back, every one checked\n"
    );
    assert!(said.starts_with(&first), "{said}");
    // Outside there is no such path.
    assert!(!socket.exists());
    let outside = Running::start(&mut memenpsf(&arguments)).end();
    assert!(outside.failure().contains("No such file"), "{outside:?}");
    // Inside it cannot be written to.
    let target = folder.path().join("new");
    let touch = mount.command(&ALL, &["touch", target.to_str().unwrap()]);
    let touched = Running::start(&mut { touch }).end();
    assert!(
        touched.stderr.contains("Read-only file system"),
        "{touched:?}"
    );

    let ended = service.end();
    // The server's pid namespace is the outer one, which has numbers for those inside.
    let named = format!("client 0 is `inside`: user {}, process ", user());
    assert!(ended.stderr.contains(&named), "{}", ended.stderr);
    let gone = "client 0 `inside` is gone after 40000 messages: the peer closed the connection";
    assert!(ended.stderr.contains(gone), "{}", ended.stderr);
    println!(
        "evidence: 40000 messages checked by a client in mount, pid, network and user \
         namespaces of its own"
    );
}

#[test]
fn name_without_a_file_is_not_seen_from_another_network_namespace() {
    needs_namespaces!("a name without a file and network namespaces");
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let mount = Mount {
        outside: folders[0].path(),
        inside: folders[1].path(),
    };
    let name = format!("@memenpsf-namespaces-{}", std::process::id());
    let server = Running::start(&mut memenpsf(&["serve", &name]));
    let arguments = ["connect", &name, "--messages", "100"];
    // The server is there.
    let outside = [&arguments[..], &["--wait", "60"]].concat();
    Running::start(&mut memenpsf(&outside)).end().success();

    let refused = mount.memenpsf(&ALL, &arguments).end();
    assert_apart(&split(&refused).0, &[]);
    assert!(
        refused.failure().contains("Connection refused"),
        "{refused:?}"
    );
    // The network namespace alone makes the difference.
    let reached = mount.memenpsf(&["mnt", "pid", "user"], &arguments).end();
    reached.success();
    assert_apart(&split(&reached).0, &["net"]);

    server.signal(Signal::SIGTERM);
    let ended = server.end();
    let last = ended.stderr.lines().last();
    assert_eq!(
        last,
        Some("SIGTERM: served 2 clients, 1 at a time, 400 messages")
    );
}

#[test]
fn server_in_namespaces_of_its_own_knows_no_process_number_of_a_client_outside() {
    needs_namespaces!("a server in namespaces of its own");
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let mount = Mount {
        outside: folders[0].path(),
        inside: folders[1].path(),
    };
    // A socket cannot be made in what is mounted read-only.
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("socket");
    let path = socket.to_str().unwrap();
    let server = mount.memenpsf(&ALL, &["serve", path]);
    let client = ["connect", path, "--messages", "100", "--wait", "60"];
    let ended = Running::start(&mut memenpsf(&client)).end();
    ended.success();
    let pid = only_child(&server);
    let said = String::from_utf8(ended.stdout).unwrap();
    let first = format!("`memenpsf serve` (user {}, process {pid}) and back", user());
    assert!(said.contains(&first), "{said}");

    kill(pid, Signal::SIGTERM).unwrap();
    let ended = server.end();
    assert!(ended.status.success(), "{ended:?}");
    assert_apart(&split(&ended).0, &[]);
    let named = format!("is `memenpsf connect`: user {USER}, a process of another namespace\n");
    assert!(ended.stderr.contains(&named), "{}", ended.stderr);
    let last = ended.stderr.lines().last();
    assert_eq!(
        last,
        Some("SIGTERM: served 1 clients, 1 at a time, 200 messages")
    );
    assert!(!socket.exists());
}

/// Returns the process that `unshare` has started.
fn only_child(unshare: &Running) -> Pid {
    let pid = unshare.0.id();
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    Pid::from_raw(children.trim().parse().unwrap())
}
