//! Images, made for the command line: several at a time, in the order in which they were asked for.

use std::path::PathBuf;
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::image::{CachedImage, GoesOn, ImageError, Images, Settings};

use super::error::CliError;
use super::exit_code::ExitCode;

/// An image, or why there is none.
type Made = Result<Arc<CachedImage>, Arc<ImageError>>;

/// Makes the images of these components. `goes_on` is called now and then meanwhile.
pub(super) fn make(
    settings: Settings,
    paths: Vec<PathBuf>,
    goes_on: &mut dyn FnMut(),
) -> Result<Vec<Made>, CliError> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|error| {
            CliError::other(ExitCode::Failure, format!("cannot wait for the compiler: {error}"))
        })?;
    let made = runtime.block_on(async {
        let images = Images::new(settings);
        let (sender, mut words) = mpsc::unbounded_channel();
        let mut tasks = JoinSet::new();
        let count = paths.len();
        for (index, path) in paths.into_iter().enumerate() {
            let (images, sender) = (images.clone(), sender.clone());
            let progress: GoesOn = Arc::new(move |_| {
                // Who shows it may have ended.
                let _ = sender.send(());
            });
            tasks.spawn(async move { (index, images.ready(&path, progress).await) });
        }
        let mut made: Vec<_> = std::iter::repeat_with(|| None).take(count).collect();
        loop {
            tokio::select! {
                Some(()) = words.recv() => goes_on(),
                ended = tasks.join_next() => match ended {
                    Some(Ok((index, image))) => {
                        goes_on();
                        if let Some(place) = made.get_mut(index) {
                            *place = Some(image);
                        }
                    }
                    Some(Err(_)) => {}
                    None => break,
                },
            }
        }
        made
    });
    // A compilation that nobody waits for ends with this process.
    runtime.shutdown_background();
    let lost = || Err(Arc::new(ImageError::Engine("its look-up was lost".to_owned())));
    Ok(made.into_iter().map(|image| image.unwrap_or_else(lost)).collect())
}
