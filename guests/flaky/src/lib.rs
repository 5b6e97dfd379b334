//! A daemon.
use duende_sdk::{Context, Daemon, Level, Next, Wake};
/// First.
pub struct Sentinel {
    lines: u64,
}
impl Daemon for Sentinel {
    fn init(context: &mut Context<'_>) -> Result<Self, String> {
        let lines = match context
            .state()
            .get("lines")?
            .as_deref()
            .map(<[u8; 8]>::try_from)
        {
            Some(Ok(v)) => u64::from_le_bytes(v),
            _ => 0,
        };
        context.log(Level::Info, &format!("starting with {lines} lines"))?;
        Ok(Self { lines })
    }
    fn run(&mut self, _: &Wake, context: &mut Context<'_>) -> Result<Next, String> {
        let got = context.receive("lines", 256)?.len();
        self.lines += got as u64;
        context.state().set("lines", &self.lines.to_le_bytes())?;
        context
            .metric()
            .gauge_set("requests_total", self.lines as f64)?;
        Ok(if got == 256 { Next::Again } else { Next::Wait })
    }
}
duende_sdk::export!(Sentinel);
