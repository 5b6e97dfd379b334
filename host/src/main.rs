//! `duende`: the command line, and the processes that it starts of itself.

use duende::{
    cli::{self, Runner},
    compile, keep,
    manager::{self, ManagerError, ServeOptions},
    platform, worker,
};

fn main() -> cli::ExitCode {
    cli::main(Runner {
        up: |options| {
            let print_events = !options.detached;
            serve(
                options.fleet,
                ServeOptions {
                    print_events,
                    json: options.json,
                    ends_with_work: false,
                    detached: options.detached,
                    read_only_socket: options.read_only_socket,
                    written: options.written,
                },
            )
        },
        run: |options| {
            let ends_with_work = true;
            serve(
                options.fleet,
                ServeOptions {
                    print_events: true,
                    json: options.json,
                    ends_with_work,
                    detached: false,
                    read_only_socket: None,
                    ..ServeOptions::default()
                },
            )
        },
        keep: || end(keep::main()),
        wos_worker: || end(worker::main()),
        compile_worker: || end(compile::main()),
    })
}

fn serve(fleet: duende::config::FleetConfig, options: ServeOptions) -> cli::ExitCode {
    platform::raise_open_files();
    // A fleet that was told to stop has done so, whatever became of its daemons; a single daemon
    // that was run for its work has not done it if it failed.
    let (ran, json) = (options.ends_with_work, options.json);
    match manager::serve(fleet, options) {
        Ok(outcome) => {
            if ran && let Err(error) = cli::figures::print(&outcome.metrics, json) {
                cli::output::last_words(&format!("duende: standard output: {error}"));
                return cli::ExitCode::Failure;
            }
            if ran && !outcome.failed.is_empty() {
                cli::ExitCode::DaemonFailed
            } else {
                cli::ExitCode::Success
            }
        }
        Err(error) => {
            cli::output::last_words(&format!("duende: {error}"));
            match error {
                ManagerError::AlreadyRunning(_) => cli::ExitCode::AlreadyRunning,
                _ => cli::ExitCode::Failure,
            }
        }
    }
}

fn end(ended: Result<(), impl std::fmt::Display>) -> cli::ExitCode {
    match ended {
        Ok(()) => cli::ExitCode::Success,
        Err(error) => {
            cli::output::last_words(&format!("duende: {error}"));
            cli::ExitCode::Failure
        }
    }
}
