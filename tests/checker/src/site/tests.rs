//! Tests that a link is cut in the right directions, with a server at a site and requests from the
//! other end.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use super::*;

const PATIENCE: Duration = Duration::from_millis(500);

/// Repeats the test with this name in a new namespace. Returns whether this is that run.
fn entered(name: &str) -> bool {
    if is_entered() {
        return true;
    }
    if !entering(Path::new("true"), &[]).output().is_ok_and(|output| output.status.success()) {
        eprintln!("no network namespace can be made here");
        return false;
    }
    let program = std::env::current_exe().unwrap();
    let status = entering(&program, &["--exact".into(), name.into()]).status();
    assert!(status.unwrap().success(), "{name} failed in its namespace");
    false
}

/// Sends a byte from the site to this end on a new connection. Returns whether it arrived.
async fn passes(site: &Site, listener: &TcpListener) -> bool {
    let at = listener.local_addr().unwrap();
    let line = format!("exec 3<>/dev/tcp/{}/{} && echo >&3 && read -N1 <&3", at.ip(), at.port());
    let words = site.inside();
    let mut asking = tokio::process::Command::new(&words[0]);
    asking.args(&words[1..]).args(["timeout", "0.5", "bash", "-c", &line]).kill_on_drop(true);
    asking.stderr(std::process::Stdio::null());
    let answering = async {
        let (mut socket, _) = listener.accept().await.unwrap();
        echo(&mut socket).await;
    };
    let (status, _) = tokio::join!(asking.status(), timeout(PATIENCE, answering));
    status.unwrap().success()
}

/// Sends one received byte back.
async fn echo(socket: &mut TcpStream) {
    let mut byte = [0];
    if let Ok(Ok(1)) = timeout(PATIENCE, socket.read(&mut byte)).await {
        socket.write_all(&byte).await.unwrap();
    }
}

#[test]
fn a_link_is_cut_by_its_plugs_and_in_either_direction() {
    if !entered("site::tests::a_link_is_cut_by_its_plugs_and_in_either_direction") {
        return;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let directory = tempfile::tempdir().unwrap();
        let site = Site::make(3, directory.path()).await.unwrap();
        let (_, ours) = site.addresses();
        let listener = TcpListener::bind(SocketAddr::new(ours, 0)).await.unwrap();
        assert!(passes(&site, &listener).await, "a link that was not cut");
        for end in [End::Node, End::Redis] {
            site.pull(end).await.unwrap();
            assert!(!passes(&site, &listener).await, "without the plug at {end:?}");
            healed(&site, &listener).await;
            site.deafen(end).await.unwrap();
            assert!(!passes(&site, &listener).await, "{end:?} is deaf");
            healed(&site, &listener).await;
        }
    });
}

async fn healed(site: &Site, listener: &TcpListener) {
    site.heal().await.unwrap();
    for _ in 0..10 {
        if passes(site, listener).await {
            return;
        }
    }
    panic!("a link that was healed lets nothing through");
}
