//! Packages from Debian, for machines that lack a program. Needs to be root, or sudo without a password.

use std::path::Path;
use std::process::Command;

use crate::shell::{self, Error};

/// Whether packages can come from Debian here.
pub(crate) fn is_debian() -> bool {
    Path::new("/etc/debian_version").exists()
}

/// Installs packages, without those that are only recommended, and without removing any.
pub(crate) fn install(packages: &[&str]) -> Result<(), Error> {
    let is_root = shell::output(Command::new("id").arg("-u"))? == "0";
    let apt = |arguments: &[&str]| {
        let mut command = if is_root {
            Command::new("apt-get")
        } else {
            let mut sudo = Command::new("sudo");
            sudo.args(["-n", "apt-get"]);
            sudo
        };
        command.env("DEBIAN_FRONTEND", "noninteractive").arg("-qq").args(arguments);
        shell::run(&mut command)
    };
    apt(&["update"])?;
    apt(&[&["install", "-y", "--no-install-recommends", "--no-remove"], packages].concat())
}
