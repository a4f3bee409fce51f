//! A small file system for what is to become full, in a folder of a site; gone with the value.

use std::path::PathBuf;
use std::process::Command;

use super::Site;

/// Where it is mounted.
pub struct Small(PathBuf);

impl Small {
    /// `None`, with the reason, where that takes more than we may.
    pub fn mount(site: &Site, name: &str, mib: u32) -> Option<Small> {
        let path = site.path(name);
        std::fs::create_dir(&path).unwrap();
        let options = format!("size={mib}m,mode=0777");
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(&path).output();
        if mounted.is_ok_and(|output| output.status.success()) {
            return Some(Small(path));
        }
        println!("skipped: mounting a small file system takes root");
        None
    }

    /// Gives it this size, with all that is in it.
    pub fn grow(&self, mib: u32) {
        let size = format!("remount,size={mib}m");
        assert!(Command::new("mount").args(["-o", &size]).arg(&self.0).status().unwrap().success());
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}
