//! Files that appear whole or not at all.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::symlink;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Command;

use super::super::output::{Destination, clean_up_on_signals, publish};

fn refusal(out: &Path) -> String {
    Destination::new(out).map(|_| ()).expect_err("a refused place").to_string()
}

fn count(folder: &Path) -> usize {
    fs::read_dir(folder).expect("a folder").count()
}

#[test]
fn only_regular_files_in_folders_that_exist_are_replaced() {
    let temp = tempfile::tempdir().expect("a folder");
    assert!(refusal(temp.path()).ends_with("is a folder; give the name of a file"));
    assert!(refusal(&temp.path().join("new/")).ends_with("is a folder; give the name of a file"));
    assert!(refusal(Path::new("/dev/null")).ends_with("is no regular file, and will not be replaced"));
    assert!(refusal(&temp.path().join("gone/out")).ends_with("does not exist; create it first"));
    symlink("gone", temp.path().join("link")).expect("a link");
    assert!(refusal(&temp.path().join("link")).ends_with("is a link that leads nowhere"));
    assert!(Destination::new(Path::new("name-alone.onnx")).is_ok());
}

#[test]
fn a_link_stands_for_its_file() {
    let temp = tempfile::tempdir().expect("a folder");
    let (file, link) = (temp.path().join("file"), temp.path().join("link"));
    fs::write(&file, "old").expect("a file");
    symlink("file", &link).expect("a link");
    let destination = Destination::new(&link).expect("a place");
    let mut staged = destination.stage().expect("a file");
    staged.write_all(b"new").expect("space");
    publish(vec![(staged, destination.path().to_path_buf())]).expect("a published file");
    assert_eq!(fs::read(&file).expect("a file"), b"new");
    assert!(link.symlink_metadata().expect("a link").is_symlink());
}

#[test]
fn what_is_dropped_leaves_nothing() {
    let temp = tempfile::tempdir().expect("a folder");
    let destination = Destination::new(&temp.path().join("out")).expect("a place");
    let staged = destination.stage().expect("a file");
    assert_eq!(count(temp.path()), 1);
    drop(staged);
    assert_eq!(count(temp.path()), 0);
}

#[test]
fn a_failed_publication_takes_back_what_came_before() {
    let temp = tempfile::tempdir().expect("a folder");
    let destination = Destination::new(&temp.path().join("out")).expect("a place");
    let stage = || destination.stage().expect("a file");
    let occupied = temp.path().join("occupied");
    fs::create_dir(&occupied).expect("a folder");
    assert!(publish(vec![(stage(), temp.path().join("data")), (stage(), occupied)]).is_err());
    assert_eq!(count(temp.path()), 1);
}

#[test]
fn only_strays_of_the_dead_are_removed() {
    let temp = tempfile::tempdir().expect("a folder");
    let destination = Destination::new(&temp.path().join("out")).expect("a place");
    let alive = destination.stage().expect("a file");
    let stray = temp.path().join(".onnxq-1-0.tmp");
    File::create(&stray).expect("a file");
    let other = temp.path().join(".onnxq-notes");
    File::create(&other).expect("a file");
    let next = destination.stage().expect("a file");
    assert!(alive.path().exists() && next.path().exists() && other.exists() && !stray.exists());
}

/// The other half of the test below: a process that is interrupted while it writes.
#[test]
fn interrupted_process() {
    let Some(folder) = std::env::var_os("ONNXQ_TEST_INTERRUPTED") else { return };
    clean_up_on_signals().expect("handlers");
    let destination = Destination::new(&Path::new(&folder).join("out")).expect("a place");
    let mut staged = destination.stage().expect("a file");
    staged.write_all(&vec![0; 1 << 20]).expect("space");
    assert_eq!(count(Path::new(&folder)), 1);
    let signal = if std::env::var_os("ONNXQ_TEST_INT").is_some() {
        signal_hook::consts::SIGINT
    } else {
        signal_hook::consts::SIGTERM
    };
    signal_hook::low_level::raise(signal).expect("a signal");
    loop {
        std::thread::park();
    }
}

#[test]
fn signals_leave_no_stray_file() {
    for (variable, signal) in [("ONNXQ_TEST_INT", 2), ("ONNXQ_TEST_TERM", 15)] {
        let temp = tempfile::tempdir().expect("a folder");
        let status = Command::new(std::env::current_exe().expect("this test"))
            .args([
                "--exact",
                concat!(module_path!(), "::interrupted_process").split_once("::").map_or("", |(_, path)| path),
            ])
            .env("ONNXQ_TEST_INTERRUPTED", temp.path())
            .env(variable, "1")
            .output()
            .expect("a process")
            .status;
        assert_eq!(status.signal(), Some(signal));
        assert_eq!(count(temp.path()), 0);
    }
}
