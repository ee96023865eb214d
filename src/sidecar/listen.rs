//! Where the gRPC port listens: an address, or a Unix socket that only its user and group may use.
//!
//! The socket is made in a folder of its own that nobody else may enter, and moved to its place once it has its mode: at no time
//! is it there with another. The socket of a process that is gone is replaced, that of one that listens never; of several
//! sidecars that start at once one gets the place, since they take turns by a lock on the folder (`flock`, which other programs
//! do not look at).

use std::{
    fs::{self, File, TryLockError},
    io,
    os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    time::sleep,
};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::server::Connected;

use super::config::Address;

/// Pause after a failed accept, so that a lack of file descriptors does not make it spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Who may connect to the socket: its owner and its group.
const SOCKET_MODE: u32 = 0o660;
/// Who may enter the folder in which it is made.
const PRIVATE_MODE: u32 = 0o700;
/// How often to look whether another starter is done, and how long.
const TURN_PAUSE: Duration = Duration::from_millis(20);
const TURNS: usize = 250;
/// How many folders may have been left by processes that were killed while they made their socket.
const MAX_LEFT: usize = 64;

/// A bound listener.
pub(super) enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener, SocketFile),
}

/// The file of a socket; removed with this.
pub(super) struct SocketFile {
    path: PathBuf,
    inode: u64,
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // While another one starts it is not touched: whoever comes later replaces what nobody listens on.
        let Ok(Some(_turn)) = folder(&self.path).and_then(try_turn) else { return };
        // Not another sidecar's, which has taken its place.
        if fs::symlink_metadata(&self.path).is_ok_and(|file| file.ino() == self.inode) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

impl Listener {
    pub(super) async fn bind(address: &Address) -> io::Result<Self> {
        match address {
            Address::Tcp(address) => Ok(Self::Tcp(TcpListener::bind(address).await?)),
            Address::Unix(path) => bind_socket(path).await,
        }
    }

    /// Where it listens, with the port that the system chose.
    pub(super) fn address(&self) -> io::Result<Address> {
        Ok(match self {
            Self::Tcp(listener) => Address::Tcp(listener.local_addr()?),
            Self::Unix(_, file) => Address::Unix(file.path.clone()),
        })
    }
}

async fn bind_socket(path: &Path) -> io::Result<Listener> {
    let folder = folder(path)?;
    let private = PrivateFolder::new(folder)?;
    let made = private.0.join("s");
    let listener = UnixListener::bind(&made)?;
    fs::set_permissions(&made, fs::Permissions::from_mode(SOCKET_MODE))?;
    let inode = fs::symlink_metadata(&made)?.ino();

    let _turn = turn(folder).await?;
    assert_free(path).await?;
    fs::rename(&made, path)?;
    Ok(Listener::Unix(listener, SocketFile { path: path.to_owned(), inode }))
}

fn folder(path: &Path) -> io::Result<&Path> {
    path.parent().ok_or_else(|| io::Error::other("is no path of a file"))
}

/// A folder that only this process's user may enter; removed with this, whatever is in it.
struct PrivateFolder(PathBuf);

impl PrivateFolder {
    /// With a short name, since the path of a socket has at most some hundred bytes.
    fn new(within: &Path) -> io::Result<Self> {
        let mut builder = fs::DirBuilder::new();
        builder.mode(PRIVATE_MODE);
        for number in 0..MAX_LEFT {
            let path = within.join(format!(".{}.{number}", std::process::id()));
            match builder.create(&path) {
                Ok(()) => return Ok(Self(path)),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
        Err(io::Error::other("too many folders of earlier starts beside it: remove those whose names begin with a dot"))
    }
}

impl Drop for PrivateFolder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Waits until no other starter is about to take a place in this folder. Ends with the file.
async fn turn(folder: &Path) -> io::Result<File> {
    for _ in 0..TURNS {
        match try_turn(folder)? {
            Some(turn) => return Ok(turn),
            None => sleep(TURN_PAUSE).await,
        }
    }
    Err(io::Error::new(io::ErrorKind::WouldBlock, "somebody else holds a lock on its folder"))
}

fn try_turn(folder: &Path) -> io::Result<Option<File>> {
    let file = File::open(folder)?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Whether there is nothing, or the socket of a process that is gone.
async fn assert_free(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
        Ok(file) if !file.file_type().is_socket() => {
            return Err(io::Error::other("there is something that is not a socket"));
        }
        Ok(_) => {}
    }
    match UnixStream::connect(path).await {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
        Err(error) => Err(error),
        Ok(_) => Err(io::Error::new(io::ErrorKind::AddrInUse, "another process listens there")),
    }
}

/// What connections come from.
pub(super) trait Accept: Send + 'static {
    type Io: Send + 'static;
    fn next(&self) -> impl Future<Output = io::Result<Self::Io>> + Send;
}

impl Accept for TcpListener {
    type Io = TcpStream;

    async fn next(&self) -> io::Result<TcpStream> {
        let (stream, _) = self.accept().await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }
}

impl Accept for UnixListener {
    type Io = UnixStream;

    async fn next(&self) -> io::Result<UnixStream> {
        Ok(self.accept().await?.0)
    }
}

/// A connection that counts until it ends.
pub(super) struct Counted<S> {
    stream: S,
    _place: OwnedSemaphorePermit,
}

impl<S: AsyncRead + Unpin> AsyncRead for Counted<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Counted<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl<S: Connected> Connected for Counted<S> {
    type ConnectInfo = S::ConnectInfo;

    fn connect_info(&self) -> S::ConnectInfo {
        self.stream.connect_info()
    }
}

/// Accepts until `stop`, so many at once; more of them wait with the system. No failure to accept one ends it.
pub(super) fn accept<L: Accept + Sync>(
    listener: L,
    most: usize,
    stop: CancellationToken,
) -> ReceiverStream<io::Result<Counted<L::Io>>> {
    let (sender, receiver) = mpsc::channel(1);
    let places = Arc::new(Semaphore::new(most));
    tokio::spawn(stop.run_until_cancelled_owned(async move {
        // It is never closed.
        while let Ok(place) = Arc::clone(&places).acquire_owned().await {
            match listener.next().await {
                Ok(stream) => {
                    if sender.send(Ok(Counted { stream, _place: place })).await.is_err() {
                        return;
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }));
    ReceiverStream::new(receiver)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn no_more_connections_than_there_are_places() {
        use tokio_stream::StreamExt as _;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut accepted = accept(listener, 2, CancellationToken::new());
        let _clients = [
            TcpStream::connect(address).await.unwrap(),
            TcpStream::connect(address).await.unwrap(),
            TcpStream::connect(address).await.unwrap(),
        ];
        let first = accepted.next().await.unwrap().unwrap();
        let _second = accepted.next().await.unwrap().unwrap();
        let rounds = async {
            for _ in 0..10_000 {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            biased;
            _ = accepted.next() => panic!("a third one was accepted"),
            () = rounds => {}
        }
        drop(first);
        assert!(accepted.next().await.unwrap().is_ok());
    }

    #[tokio::test]
    async fn a_socket_is_taken_over_only_from_the_dead() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let address = Address::Unix(path.clone());
        let first = Listener::bind(&address).await.unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, SOCKET_MODE);
        let refused = Listener::bind(&address).await.err().unwrap();
        assert_eq!(refused.kind(), io::ErrorKind::AddrInUse);
        drop(first);
        assert!(!path.exists(), "removed at the end");
        // As a killed process leaves it.
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        drop(Listener::bind(&address).await.unwrap());
        fs::write(&path, "precious").unwrap();
        assert!(Listener::bind(&address).await.is_err());
        assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
    }

    #[tokio::test]
    async fn who_starts_waits_for_another_that_is_about_to() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let turn = try_turn(dir.path()).unwrap().expect("nobody else starts");
        let address = Address::Unix(path.clone());
        let late = tokio::spawn(async move { Listener::bind(&address).await.map(drop) });
        while fs::read_dir(dir.path()).unwrap().next().is_none() {
            tokio::task::yield_now().await;
        }
        let _first = std::os::unix::net::UnixListener::bind(&path).expect("the place is free still");
        drop(turn);
        assert_eq!(late.await.unwrap().unwrap_err().kind(), io::ErrorKind::AddrInUse);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn of_many_that_start_at_once_one_gets_the_socket() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        for _ in 0..5 {
            drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
            let address = Address::Unix(path.clone());
            let starters: Vec<_> = (0..8)
                .map(|_| {
                    let address = address.clone();
                    tokio::spawn(async move { Listener::bind(&address).await })
                })
                .collect();
            let mut bound = Vec::new();
            for starter in starters {
                match starter.await.unwrap() {
                    Ok(listener) => bound.push(listener),
                    Err(error) => assert_eq!(error.kind(), io::ErrorKind::AddrInUse, "{error}"),
                }
            }
            assert_eq!(bound.len(), 1);
            let Some(Listener::Unix(listener, _file)) = bound.pop() else { panic!("a socket") };
            let (accepted, connected) = tokio::join!(listener.accept(), UnixStream::connect(&path));
            assert!(accepted.is_ok() && connected.is_ok());
            let names: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
            assert_eq!(names, ["s"], "nothing is left behind");
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn the_socket_is_never_there_with_another_mode() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        let stop = CancellationToken::new();
        let (watched, stopped) = (path.clone(), stop.clone());
        let watch = std::thread::spawn(move || {
            let mut modes = std::collections::BTreeSet::new();
            while !stopped.is_cancelled() {
                modes.extend(fs::symlink_metadata(&watched).map(|file| file.permissions().mode() & 0o777));
            }
            modes
        });
        for _ in 0..500 {
            drop(Listener::bind(&Address::Unix(path.clone())).await.unwrap());
        }
        stop.cancel();
        let modes = watch.join().unwrap();
        assert!(modes.iter().eq(&[SOCKET_MODE]), "{modes:?}");
    }
}
