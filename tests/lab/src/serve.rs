//! A file server for one directory: enough HTTP for curl and its like.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::error::{Context, Result};

/// The port it listens on.
pub(crate) const PORT: u16 = 8000;
const PATIENCE: Duration = Duration::from_secs(30);
const LONGEST_REQUEST: u64 = 16 * 1024;

/// A running server; dropping it stops it.
#[derive(Debug)]
pub(crate) struct Server {
    stop: Arc<AtomicBool>,
}

impl Server {
    /// Starts a server in the network of the calling thread; `None` when one serves there.
    pub(crate) fn start(address: Ipv4Addr, root: &Path) -> Result<Option<Self>> {
        let address = SocketAddr::from((address, PORT));
        let listener = match TcpListener::bind(address) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => return Ok(None),
            bound => bound.at(|| format!("listen on {address}"))?,
        };
        listener
            .set_nonblocking(true)
            .at(|| format!("listen on {address}"))?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let root = root.to_owned();
        thread::spawn(move || accept(&listener, &root, &stopped));
        Ok(Some(Self { stop }))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
    }
}

fn accept(listener: &TcpListener, root: &Path, stopped: &AtomicBool) {
    let patience = Timespec {
        tv_sec: 0,
        tv_nsec: 200_000_000,
    };
    while !stopped.load(Ordering::Acquire) {
        let _ = poll(&mut [PollFd::new(listener, PollFlags::IN)], Some(&patience));
        while let Ok((stream, _)) = listener.accept() {
            let root = root.to_owned();
            // A client that goes away in the middle is no concern of the server.
            thread::spawn(move || drop(answer(&stream, &root)));
        }
    }
}

fn answer(mut stream: &TcpStream, root: &Path) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut lines = BufReader::new(stream.take(LONGEST_REQUEST)).lines();
    let request = lines.next().transpose()?.unwrap_or_default();
    // The rest of the head has to be read, or closing would reset the connection.
    for line in lines {
        if line?.is_empty() {
            break;
        }
    }
    let (method, path) = target(&request);
    let opened = path.and_then(|name| open(root, &name));
    match (method, opened) {
        ("GET" | "HEAD", Some((mut file, length))) => {
            write!(
                stream,
                "HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\n\
                 Content-Length: {length}\r\nConnection: close\r\n\r\n"
            )?;
            if method == "GET" {
                io::copy(&mut file, &mut stream)?;
            }
        }
        ("GET" | "HEAD", None) => refuse(stream, "404 Not Found")?,
        _ => refuse(stream, "405 Method Not Allowed")?,
    }
    stream.flush()
}

fn refuse(mut stream: &TcpStream, status: &str) -> io::Result<()> {
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    )
}

/// Method and path of a request line; the path only if it stays below the root.
fn target(request: &str) -> (&str, Option<PathBuf>) {
    let mut words = request.split(' ');
    let method = words.next().unwrap_or_default();
    let path = words.next().unwrap_or_default();
    let path = path.split(['?', '#']).next().unwrap_or_default();
    let safe = path.strip_prefix('/').filter(|path| {
        !path.is_empty()
            && path
                .split('/')
                .all(|part| !part.is_empty() && !part.starts_with('.'))
    });
    (method, safe.map(PathBuf::from))
}

fn open(root: &Path, path: &Path) -> Option<(File, u64)> {
    let file = File::open(root.join(path)).ok()?;
    let metadata = file.metadata().ok()?;
    metadata.is_file().then_some((file, metadata.len()))
}

#[cfg(test)]
mod tests {
    use super::target;
    use std::path::PathBuf;

    #[test]
    fn no_path_leaves_the_directory() {
        assert_eq!(
            target("GET /a/b?x HTTP/1.1"),
            ("GET", Some(PathBuf::from("a/b")))
        );
        for bad in ["/", "/../x", "/a/../../x", "//x", "x", "/.lock", "/a/"] {
            assert_eq!(target(&format!("GET {bad} HTTP/1.1")).1, None, "{bad}");
        }
    }
}
