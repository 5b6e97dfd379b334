//! A program that starts itself again in the background and ends: what to tell whoever did not mean
//! that.

use std::path::Path;
use std::time::Duration;

use super::protocol::Exit;

/// A main process that ends well within this time, and leaves others, went into the background.
const AT_ONCE: Duration = Duration::from_secs(1);

/// What keeps well-known programs in the foreground.
const FOREGROUND: [(&str, &str); 17] = [
    ("apache2", "-DFOREGROUND"),
    ("cron", "-f"),
    ("crond", "-n"),
    ("dnsmasq", "--keep-in-foreground"),
    ("haproxy", "-db"),
    ("httpd", "-DFOREGROUND"),
    ("lighttpd", "-D"),
    ("mongod", "without --fork"),
    ("named", "-f"),
    ("nginx", "-g \"daemon off;\""),
    ("nmbd", "--foreground"),
    ("php-fpm", "--nodaemonize"),
    ("redis-server", "--daemonize no"),
    ("rsyslogd", "-n"),
    ("smbd", "--foreground"),
    ("sshd", "-D"),
    ("syslog-ng", "--foreground"),
];

/// What to do about a main process that ended so, after this time, and left others; none if it is no
/// such case.
pub(super) fn hint(argv: &[String], exit: Exit, lived: Duration) -> Option<String> {
    if exit != Exit::Code(0) || lived >= AT_ONCE {
        return None;
    }
    let program = argv.first()?;
    let name = Path::new(program).file_name()?.to_string_lossy();
    let known = FOREGROUND.iter().find(|(known, _)| *known == name);
    let way = match known {
        Some((_, option)) => format!("run it in the foreground: `{name} {option}`"),
        None => {
            "run it in the foreground (options such as `--foreground`, `-f`, `-n`, `--no-daemon`; \
                 in a script `exec` the program, without `&`), or let it say MAINPID= by sd_notify"
                .to_owned()
        }
    };
    Some(format!("it went into the background, where nobody would notice its end: {way}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_goes_into_the_background_is_told_how_not_to() {
        let (short, long) = (Duration::from_millis(10), Duration::from_secs(1));
        for (argv, exit, lived, expected) in [
            ("/usr/sbin/nginx", Exit::Code(0), short, Some("`nginx -g \"daemon off;\"`")),
            ("my-daemon", Exit::Code(0), short, Some("MAINPID=")),
            ("my-daemon", Exit::Code(0), long, None),
            ("my-daemon", Exit::Code(1), short, None),
            ("my-daemon", Exit::Signal { signal: 15, core_dumped: false }, short, None),
        ] {
            let found = hint(&[argv.to_owned()], exit, lived);
            assert_eq!(found.is_some(), expected.is_some(), "{argv} {exit:?}");
            assert!(found.unwrap_or_default().contains(expected.unwrap_or_default()), "{argv}");
        }
        assert!(FOREGROUND.is_sorted());
    }
}
