//! What an agent must not forget, in files that are whole or absent.
//!
//! Each file is written under another name, synced, renamed over the old one, and the folder synced; its first line
//! carries a checksum over the rest. A file that is torn or unreadable is put aside and the agent starts without it.

use core::net::SocketAddr;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use ringmesh_health::monitor::EndpointKey;
use ringmesh_node::io::{Input, Persist, Ticket};
use ringmesh_node::registration::SavedState;
use ringmesh_partition::map::Map;
use ringmesh_types::body::EndpointHealth;
use ringmesh_types::document::Document;
use ringmesh_types::ids::{Epoch, NodeId};
use ringmesh_types::name::{InstanceId, ServiceName};
use ringmesh_types::stored::Stored;
use ringmesh_types::wire;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;
use xxhash_rust::xxh3::xxh3_64;

use crate::disk_trouble::{News, Trouble};

const MAGIC: &str = "ringmesh 1";

/// A folder of files that this agent alone uses.
#[derive(Debug)]
pub struct Store {
    folder: PathBuf,
    /// Held for as long as the agent runs: a second agent on the same folder is refused.
    _lock: Flock<File>,
}

/// Why the folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// It cannot be made or opened.
    #[error("node.data_dir: {0} cannot be used: {1}")]
    Folder(PathBuf, io::Error),
    /// Another agent uses it.
    #[error("node.data_dir: {0} is in use by another agent: give each agent a folder of its own")]
    InUse(PathBuf),
    /// A file that must not be lost cannot be read or written.
    #[error("{0}: {1}")]
    File(PathBuf, io::Error),
}

/// A file that could not be written; what was there before is untouched.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {source}")]
pub struct WriteError {
    /// The file.
    pub path: PathBuf,
    /// What the system says.
    pub source: io::Error,
}

/// How one endpoint did, as it is kept.
#[derive(Debug, Serialize, Deserialize)]
struct SavedHealth {
    instance: InstanceId,
    endpoint: usize,
    health: EndpointHealth,
}

/// Everything that an earlier life left.
#[derive(Debug, Default)]
pub struct Remembered {
    /// The last epoch that was used.
    pub epoch: Epoch,
    /// What was registered.
    pub registrations: SavedState,
    /// How the endpoints did.
    pub health: Vec<(EndpointKey, EndpointHealth)>,
    /// What the mesh looked like.
    pub view: Vec<Document>,
    /// Which of its members were Down.
    pub down: Vec<NodeId>,
    /// Where other members were.
    pub peers: Vec<SocketAddr>,
    /// Which maps were followed.
    pub maps: Vec<(ServiceName, Map)>,
}

impl Store {
    /// Opens `folder`, making it if need be.
    ///
    /// # Errors
    /// If it cannot be used, or another agent uses it.
    pub fn open(folder: &Path) -> Result<Self, StoreError> {
        let unusable = |error| StoreError::Folder(folder.to_owned(), error);
        make_private(folder).map_err(unusable)?;
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(folder.join("lock"))
            .map_err(unusable)?;
        match Flock::lock(lock, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => Ok(Self { folder: folder.to_owned(), _lock: lock }),
            Err((_, Errno::EWOULDBLOCK)) => Err(StoreError::InUse(folder.to_owned())),
            Err((_, errno)) => Err(unusable(errno.into())),
        }
    }

    /// The node secret, made from `fresh` at the first start: 32 bytes that keys are derived from.
    ///
    /// # Errors
    /// If it is there but cannot be read, or is not and cannot be written.
    pub fn secret(&self, fresh: [u8; 32]) -> Result<[u8; 32], StoreError> {
        let path = self.folder.join("secret");
        let failed = |error| StoreError::File(path.clone(), error);
        match fs::read(&path) {
            Ok(bytes) => bytes.try_into().map_err(|_| {
                failed(io::Error::other("is not 32 bytes long: restore it, or remove it to get a new one"))
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.replace("secret", &fresh).map_err(failed)?;
                Ok(fresh)
            }
            Err(error) => Err(failed(error)),
        }
    }

    /// Reads everything that is there and whole; `warn` hears of what is torn.
    ///
    /// # Errors
    /// If a file is there but cannot be read: starting without it would lose what was acknowledged.
    pub fn remember(&self, mut warn: impl FnMut(String)) -> Result<Remembered, StoreError> {
        let health: Vec<SavedHealth> = self.json("health", &mut warn)?;
        let key =
            |saved: &SavedHealth| EndpointKey { instance: saved.instance.clone(), endpoint: saved.endpoint };
        let (down, view) = self.view(&mut warn)?;
        Ok(Remembered {
            epoch: self.json("epoch", &mut warn)?,
            registrations: self.json("registrations", &mut warn)?,
            health: health.iter().map(|saved| (key(saved), saved.health)).collect(),
            view,
            down,
            peers: self.json("peers", &mut warn)?,
            maps: self.maps(&mut warn)?,
        })
    }

    fn json<T: DeserializeOwned + Default>(
        &self,
        name: &str,
        warn: &mut impl FnMut(String),
    ) -> Result<T, StoreError> {
        self.read(name, warn, |bytes| serde_json::from_slice(bytes).map_err(|error| error.to_string()))
    }

    /// Which members were Down, and everybody's documents.
    fn view(&self, warn: &mut impl FnMut(String)) -> Result<(Vec<NodeId>, Vec<Document>), StoreError> {
        self.read("view", warn, |mut bytes| {
            let mut documents = Vec::new();
            let (down, used) =
                wire::decode_prefix(wire::Channel::Stream, bytes).map_err(|error| error.to_string())?;
            bytes = &bytes[used..];
            while !bytes.is_empty() {
                let (document, used) =
                    wire::decode_prefix(wire::Channel::Stream, bytes).map_err(|error| error.to_string())?;
                documents.push(document);
                bytes = &bytes[used..];
            }
            Ok((down, documents))
        })
    }

    /// The maps that were followed.
    fn maps(&self, warn: &mut impl FnMut(String)) -> Result<Vec<(ServiceName, Map)>, StoreError> {
        self.read("maps", warn, |mut bytes| {
            let mut maps = Vec::new();
            while !bytes.is_empty() {
                let (map, used): (Vec<u8>, usize) =
                    wire::decode_prefix(wire::Channel::Stream, bytes).map_err(|error| error.to_string())?;
                let map = Map::from_bytes(&map).map_err(|error| error.to_string())?;
                maps.push((map.parts().service.clone(), map));
                bytes = &bytes[used..];
            }
            Ok(maps)
        })
    }

    /// Reads a file; if it is torn, puts it aside and says so.
    fn read<T: Default>(
        &self,
        name: &str,
        warn: &mut impl FnMut(String),
        decode: impl FnOnce(&[u8]) -> Result<T, String>,
    ) -> Result<T, StoreError> {
        let path = self.folder.join(name);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(T::default()),
            Err(error) => return Err(StoreError::File(path, error)),
        };
        match unwrap_checked(&bytes).and_then(decode) {
            Ok(value) => Ok(value),
            Err(why) => {
                let free = |number: &u32| !self.folder.join(format!("{name}.torn-{number}")).exists();
                let number = (1..1_000).find(free).unwrap_or(1_000);
                let aside = self.folder.join(format!("{name}.torn-{number}"));
                fs::rename(&path, &aside).map_err(|error| StoreError::File(path.clone(), error))?;
                warn(format!("{} is not whole ({why}): put aside as {}", path.display(), aside.display()));
                Ok(T::default())
            }
        }
    }

    /// Writes what the node wants kept; returns when it is on disk, file and folder.
    ///
    /// # Errors
    /// Names the file and why; what was there before is untouched.
    pub fn write(&self, what: &Persist) -> Result<(), WriteError> {
        let name = name_of(what);
        body_of(what)
            .and_then(|body| self.replace(name, &wrap_checked(&body)))
            .map_err(|source| WriteError { path: self.folder.join(name), source })
    }

    /// Writes a file that only this agent's user may read.
    ///
    /// # Errors
    /// Whatever the system says; what was there before is untouched.
    pub fn keep(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        self.replace(name, bytes)
    }

    fn replace(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let (path, temporary) = (self.folder.join(name), self.folder.join(format!("{name}.new")));
        let mut file = private_file(&temporary)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&temporary, &path)?;
        File::open(&self.folder)?.sync_all()
    }
}

fn make_private(folder: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

fn private_file(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(path)
}

const fn name_of(what: &Persist) -> &'static str {
    match what {
        Persist::Epoch(_) => "epoch",
        Persist::Registrations(_) => "registrations",
        Persist::Health(_) => "health",
        Persist::View { .. } => "view",
        Persist::Peers(_) => "peers",
        Persist::Maps(_) => "maps",
    }
}

fn body_of(what: &Persist) -> io::Result<Vec<u8>> {
    match what {
        Persist::Epoch(epoch) => to_json(epoch),
        Persist::Registrations(state) => to_json(state),
        Persist::Health(health) => to_json(&saved_health(health)),
        Persist::View { documents, down } => view_bytes(down, documents),
        Persist::Peers(peers) => to_json(peers),
        Persist::Maps(maps) => maps_bytes(maps),
    }
}

fn to_json<T: Serialize>(value: &T) -> io::Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(io::Error::other)
}

fn saved_health(health: &[(EndpointKey, EndpointHealth)]) -> Vec<SavedHealth> {
    let saved = |(key, health): &(EndpointKey, EndpointHealth)| SavedHealth {
        instance: key.instance.clone(),
        endpoint: key.endpoint,
        health: *health,
    };
    health.iter().map(saved).collect()
}

fn view_bytes(down: &Vec<NodeId>, documents: &[Arc<Stored>]) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    wire::encode_into(&mut bytes, down).map_err(io::Error::other)?;
    for stored in documents {
        wire::encode_into(&mut bytes, &stored.document).map_err(io::Error::other)?;
    }
    Ok(bytes)
}

/// Maps as `docs/partition-map.md` says, each with its length before it.
fn maps_bytes(maps: &[(ServiceName, Arc<Map>)]) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    for (_, map) in maps {
        wire::encode_into(&mut bytes, &map.to_bytes()).map_err(io::Error::other)?;
    }
    Ok(bytes)
}

fn wrap_checked(body: &[u8]) -> Vec<u8> {
    let mut bytes = format!("{MAGIC} {:016x}\n", xxh3_64(body)).into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

fn unwrap_checked(bytes: &[u8]) -> Result<&[u8], String> {
    let end = bytes.iter().take(64).position(|byte| *byte == b'\n').ok_or("it has no first line")?;
    let (head, body) = (&bytes[..end], &bytes[end + 1..]);
    let want = format!("{MAGIC} {:016x}", xxh3_64(body));
    if head == want.as_bytes() { Ok(body) } else { Err("its checksum does not fit".to_owned()) }
}

/// Writes what comes until the channel closes, in order, on a thread of its own. Of things that nobody waits for only
/// the latest of a kind is written.
pub(crate) fn run(
    store: &Store,
    mut wishes: mpsc::Receiver<(Option<Ticket>, Persist)>,
    urgent: &mpsc::Sender<Input>,
) {
    let mut trouble = Trouble::default();
    while let Some((ticket, what)) = wishes.blocking_recv() {
        let mut last = (ticket, what);
        while let Ok(next) = wishes.try_recv() {
            let is_same_kind = std::mem::discriminant(&next.1) == std::mem::discriminant(&last.1);
            if !is_same_kind {
                write_one(store, &last, urgent, &mut trouble);
            }
            last = next;
        }
        write_one(store, &last, urgent, &mut trouble);
    }
}

/// Writes one thing. Later tickets vouch for earlier ones, because each wish holds the whole state.
fn write_one(
    store: &Store,
    (ticket, what): &(Option<Ticket>, Persist),
    urgent: &mpsc::Sender<Input>,
    trouble: &mut Trouble,
) {
    let result = store.write(what);
    tell(trouble, name_of(what), &result);
    if let Some(ticket) = ticket {
        let result = result.map_err(|error| error.to_string());
        let _ = urgent.blocking_send(Input::Persisted { ticket: *ticket, result });
    }
}

fn tell(trouble: &mut Trouble, file: &'static str, result: &Result<(), WriteError>) {
    let now = Instant::now();
    match result {
        Ok(()) => {
            if let Some(News::WorksAgain) = trouble.on_written(now, file) {
                tracing::info!("node.data_dir: changes are kept there again");
            }
        }
        Err(WriteError { path, source }) => {
            if let Some(News::Fails) = trouble.on_failed(now, file, source) {
                tracing::warn!(
                    path = %path.display(),
                    error = %source,
                    "node.data_dir: changes are not kept there: the agent goes on from memory, and refuses registrations that \
                     it cannot keep: free space there, or let it write there"
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("ringmesh-disk-{name}-{}", std::process::id()));
            let _ = fs::remove_dir_all(&path);
            Self(path)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn what_was_written_is_remembered() {
        let folder = Folder::new("remembered");
        let store = Store::open(&folder.0).expect("opens");
        let peers = vec![SocketAddr::from(([127, 0, 0, 1], 7300))];
        store.write(&Persist::Epoch(Epoch(7))).expect("writes");
        store.write(&Persist::Peers(peers.clone())).expect("writes");
        assert_eq!(store.secret([1; 32]).expect("made"), [1; 32]);
        assert_eq!(store.secret([2; 32]).expect("kept"), [1; 32]);
        let remembered = store.remember(|why| panic!("{why}")).expect("reads");
        assert_eq!((remembered.epoch, remembered.peers), (Epoch(7), peers));
    }

    #[test]
    fn a_torn_file_is_put_aside_and_said() {
        let folder = Folder::new("torn");
        let store = Store::open(&folder.0).expect("opens");
        store.write(&Persist::Epoch(Epoch(7))).expect("writes");
        let path = folder.0.join("epoch");
        let bytes = fs::read(&path).expect("is there");
        for cut in 0..bytes.len() {
            fs::write(&path, &bytes[..cut]).expect("writes");
            let mut warned = 0;
            assert_eq!(store.remember(|_| warned += 1).expect("reads").epoch, Epoch::default());
            assert_eq!(warned, 1, "cut at {cut}");
            assert!(!path.exists());
        }
    }

    #[test]
    fn a_second_agent_on_the_same_folder_is_refused() {
        let folder = Folder::new("lock");
        let _first = Store::open(&folder.0).expect("opens");
        assert!(matches!(Store::open(&folder.0), Err(StoreError::InUse(_))));
    }

    #[test]
    fn a_write_that_fails_leaves_what_was_there() {
        let folder = Folder::new("fails");
        let store = Store::open(&folder.0).expect("opens");
        store.write(&Persist::Epoch(Epoch(7))).expect("writes");
        fs::create_dir(folder.0.join("epoch.new")).expect("in the way");
        assert!(store.write(&Persist::Epoch(Epoch(8))).is_err());
        assert_eq!(store.remember(|_| ()).expect("reads").epoch, Epoch(7));
    }
}
