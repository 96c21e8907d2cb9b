//! Files that appear whole or not at all.
//!
//! A file is written under a temporary name beside its place, synced, and renamed. A signal removes what is not
//! finished; what a killed process leaves is removed by the next one. Knows nothing of ONNX.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, Once, PoisonError};

use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM};

/// Why an output can't be written.
#[derive(Debug, thiserror::Error)]
pub enum OutputError {
    /// The place of the output is a folder.
    #[error("{}: is a folder; give the name of a file", .0.display())]
    Folder(PathBuf),
    /// The place of the output is a device, pipe or the like.
    #[error("{}: is no regular file, and will not be replaced", .0.display())]
    NoFile(PathBuf),
    /// A link to nothing.
    #[error("{}: is a link that leads nowhere", .0.display())]
    DeadLink(PathBuf),
    /// The folder of the output is not there.
    #[error("{}: the folder `{}` does not exist; create it first", out.display(), folder.display())]
    NoParent {
        /// The output as given.
        out: PathBuf,
        /// The folder that is missing.
        folder: PathBuf,
    },
    /// No space is left.
    #[error("{}: the disk is full, or a quota is reached; nothing was written", .0.display())]
    DiskFull(PathBuf),
    /// Another failure of the system.
    #[error("{}: can't be written: {source}", path.display())]
    Io {
        /// The output.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl OutputError {
    /// The error for a failure of the system at `path`.
    pub fn io(path: &Path, source: io::Error) -> Self {
        let path = path.to_path_buf();
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::DiskFull(path),
            _ => Self::Io { path, source },
        }
    }
}

/// The place of an output: a regular file or nothing yet, in a folder that exists.
#[derive(Clone, Debug)]
pub struct Destination {
    path: PathBuf,
    folder: PathBuf,
}

impl Destination {
    /// Looks at the place `out`. A link to a regular file stands for the file.
    ///
    /// # Errors
    /// Where `out` is something else than a regular file, or its folder is missing.
    pub fn new(out: &Path) -> Result<Self, OutputError> {
        let is_folder_like = out.as_os_str().as_encoded_bytes().ends_with(b"/") || out.file_name().is_none();
        let path = match out.symlink_metadata() {
            Ok(metadata) if metadata.is_symlink() => {
                out.canonicalize().map_err(|_| OutputError::DeadLink(out.to_path_buf()))?
            }
            _ => out.to_path_buf(),
        };
        match path.metadata() {
            Ok(metadata) if metadata.is_dir() => return Err(OutputError::Folder(out.to_path_buf())),
            Ok(metadata) if !metadata.is_file() => return Err(OutputError::NoFile(out.to_path_buf())),
            _ if is_folder_like => return Err(OutputError::Folder(out.to_path_buf())),
            _ => {}
        }
        let folder = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent.to_path_buf(),
            _ => PathBuf::from("."),
        };
        if !folder.is_dir() {
            return Err(OutputError::NoParent { out: out.to_path_buf(), folder });
        }
        Ok(Self { path, folder })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Begins a file that will be published in this folder. Removes what killed processes left there.
    ///
    /// # Errors
    /// Where no file can be created.
    pub fn stage(&self) -> Result<Staged, OutputError> {
        remove_strays(&self.folder);
        Staged::create(&self.folder).map_err(|source| OutputError::io(&self.path, source))
    }
}

/// A file that is being written. Dropping it removes it.
#[derive(Debug)]
pub struct Staged {
    path: PathBuf,
    file: BufWriter<File>,
    is_published: bool,
}

const PREFIX: &str = ".onnxq-";
const SUFFIX: &str = ".tmp";
/// Bytes gathered before they are written; larger pieces are passed on as they are.
const BUFFER: usize = 1 << 18;

/// Files that are not finished, and folders that are a run's own.
static LIVE: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

fn live() -> MutexGuard<'static, BTreeSet<PathBuf>> {
    LIVE.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Staged {
    fn create(folder: &Path) -> io::Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        // Absolute: the handler must find it even if the working folder changes.
        let folder = std::path::absolute(folder)?;
        loop {
            let number = COUNT.fetch_add(1, Ordering::Relaxed);
            let path = folder.join(format!("{PREFIX}{}-{number}{SUFFIX}", std::process::id()));
            let mut live = live();
            let file = match OpenOptions::new().write(true).create_new(true).open(&path) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                other => other?,
            };
            live.insert(path.clone());
            // The lock ends with the process, which tells a stray file from one at work. Where the system has no locks,
            // none is taken for stray either.
            let is_locked = file.try_lock().is_ok();
            if is_locked && !path.exists() {
                // Another process took it for stray before it was locked.
                live.remove(&path);
                continue;
            }
            return Ok(Self { path, file: BufWriter::with_capacity(BUFFER, file), is_published: false });
        }
    }

    /// Where the file is until it is published.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Sees that all that was written so far is on the disk.
    ///
    /// # Errors
    /// Where it can't be.
    pub fn sync(&mut self) -> io::Result<()> {
        self.file.flush()?;
        self.file.get_ref().sync_all()
    }
}

impl Write for Staged {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for Staged {
    fn drop(&mut self) {
        if !self.is_published {
            let mut live = live();
            let _ = fs::remove_file(&self.path);
            live.remove(&self.path);
        }
    }
}

/// A folder for what a run needs for itself, where the system keeps such. Gone, with all that is in it, when it is dropped
/// or the process is ended by a signal.
#[derive(Debug)]
pub struct Scratch(tempfile::TempDir);

impl Scratch {
    /// An empty folder.
    ///
    /// # Errors
    /// Where there can be none.
    pub fn new() -> Result<Self, OutputError> {
        let mut live = live();
        let place = std::env::temp_dir();
        let folder = tempfile::Builder::new().prefix(PREFIX).tempdir_in(&place);
        let folder = folder.map_err(|source| OutputError::io(&place, source))?;
        live.insert(folder.path().to_path_buf());
        Ok(Self(folder))
    }

    /// The place of a file in it.
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let mut live = live();
        let _ = fs::remove_dir_all(self.0.path());
        live.remove(self.0.path());
    }
}

/// Syncs the files and gives them their names, in this order; the last is the one that makes the others count. Where one
/// fails, those before it that replaced nothing are removed again.
///
/// # Errors
/// Where a file can't be synced or renamed.
pub fn publish(mut files: Vec<(Staged, PathBuf)>) -> Result<(), OutputError> {
    for (staged, path) in &mut files {
        staged.sync().map_err(|source| OutputError::io(path, source))?;
    }
    // A signal waits until all are in place.
    let mut live = live();
    let mut fresh: Vec<PathBuf> = Vec::new();
    let mut failure = None;
    for (staged, path) in &mut files {
        let is_fresh = path.symlink_metadata().is_err();
        if let Err(source) = fs::rename(&staged.path, &*path) {
            failure = Some(OutputError::io(path, source));
            break;
        }
        staged.is_published = true;
        live.remove(&staged.path);
        if is_fresh {
            fresh.push(path.clone());
        }
    }
    if let Some(failure) = failure {
        for path in fresh {
            let _ = fs::remove_file(path);
        }
        drop(live);
        return Err(failure);
    }
    drop(live);
    for (_, path) in &files {
        sync_folder(path);
    }
    Ok(())
}

/// Makes a rename durable. Not every file system can; the file itself is there either way.
fn sync_folder(path: &Path) {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let _ = File::open(folder).and_then(|folder| folder.sync_all());
}

/// Removes the unfinished files of processes that are no more.
fn remove_strays(folder: &Path) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let bytes = name.as_encoded_bytes();
        let is_ours = bytes.starts_with(PREFIX.as_bytes()) && bytes.ends_with(SUFFIX.as_bytes());
        if !is_ours || !entry.file_type().is_ok_and(|kind| kind.is_file()) {
            continue;
        }
        let Ok(file) = File::open(entry.path()) else { continue };
        match file.try_lock() {
            Ok(()) => _ = fs::remove_file(entry.path()),
            Err(TryLockError::WouldBlock | TryLockError::Error(_)) => {}
        }
    }
}

/// From now on, SIGHUP, SIGINT, SIGQUIT and SIGTERM remove unfinished files before they end the process as they would have.
///
/// # Errors
/// Where the handlers can't be installed.
pub fn clean_up_on_signals() -> io::Result<()> {
    static INSTALLED: Once = Once::new();
    let mut outcome = Ok(());
    INSTALLED.call_once(|| outcome = install());
    outcome
}

fn install() -> io::Result<()> {
    let mut signals = signal_hook::iterator::Signals::new([SIGINT, SIGTERM, SIGHUP, SIGQUIT])?;
    std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
        if let Some(signal) = signals.forever().next() {
            // Held to the end: nothing new is begun.
            let live = live();
            for path in live.iter() {
                let _ = fs::remove_file(path).or_else(|_| fs::remove_dir_all(path));
            }
            let _ = signal_hook::low_level::emulate_default_handler(signal);
        }
    })?;
    Ok(())
}
