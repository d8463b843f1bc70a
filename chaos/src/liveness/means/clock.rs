//! A wall clock that jumps: libfaketime, told by a file. The monotonic clocks stay what they are (`DONT_FAKE_MONOTONIC`): no
//! operator and no NTP can move those.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

#[derive(Debug)]
pub(in super::super) struct Clock {
    file: PathBuf,
    library: PathBuf,
}

impl Clock {
    /// A clock that is right.
    pub(in super::super) fn new(folder: &Path) -> Result<Self, String> {
        let found = std::fs::read_dir("/usr/lib").into_iter().flatten().flatten();
        let folders = [PathBuf::from("/usr/lib"), "/usr/local/lib".into()].into_iter().chain(found.map(|e| e.path()));
        let library = folders.map(|f| f.join("faketime/libfaketimeMT.so.1")).find(|path| path.exists());
        let library = library.ok_or("libfaketime is not installed (Debian and Ubuntu: `apt-get install faketime`)")?;
        let clock = Self { file: folder.join("clock"), library };
        clock.jump("+0")?;
        Ok(clock)
    }

    /// Variables of processes that read it.
    pub(in super::super) fn env(&self) -> Vec<(String, OsString)> {
        let text = |name: &str, value: &str| (name.to_owned(), OsString::from(value));
        vec![
            ("LD_PRELOAD".to_owned(), self.library.clone().into()),
            ("FAKETIME_TIMESTAMP_FILE".to_owned(), self.file.clone().into()),
            text("FAKETIME_NO_CACHE", "1"),
            text("DONT_FAKE_MONOTONIC", "1"),
        ]
    }

    /// By how much it is wrong from now on: `+1d`, `-1d`, `+0`.
    pub(in super::super) fn jump(&self, by: &str) -> Result<(), String> {
        // Whole or not at all: a reader in between must not see an empty file.
        let new = self.file.with_extension("new");
        std::fs::write(&new, by).and_then(|()| std::fs::rename(&new, &self.file)).map_err(|e| format!("no clock: {e}"))
    }
}
