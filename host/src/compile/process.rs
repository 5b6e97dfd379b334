//! `duende compile-worker`: what happens in the process that meets the component.

use std::{
    env,
    ffi::OsString,
    io::{self, Read as _, Write as _},
    os::fd::AsFd,
    time::Duration,
};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use wasmtime::{Engine, component::Component};
use wos_kernel::engine::{ContractError, ImageLinker};

use super::{
    CompileLimits, Refusal, Survey, Verdict, limits::CODE_BYTES_MAX, skeleton::skeleton,
    survey::survey,
};
use crate::{
    confine::{self, Confinement},
    worker::{COMPONENTS_MAX, Engines, Profile, engine::compiler_engine, room::Room},
};

/// Most threads of one compilation. More of them make one component ready sooner, and take as much address
/// space more each; other components are compiled beside it.
const THREADS_MAX: usize = 4;
/// Longest of what the compiler says, in bytes.
const WORDS_BYTES_MAX: usize = 4_096;

/// Why it can't judge the component.
#[derive(Debug, thiserror::Error)]
pub enum CompileProcessError {
    /// It was started by hand.
    #[error(
        "compile-worker is started by duende; to compile components beforehand, use `duende compile FILE…`"
    )]
    NotStartedByUs,
    /// The engine can't be set up.
    #[error("cannot set up the compiler: {0:#}")]
    Engine(wasmtime::Error),
    /// A system call failed.
    #[error("{what}: {source}")]
    System {
        /// What was being done.
        what: &'static str,
        /// Why it failed.
        source: io::Error,
    },
}

/// The argument of one that is asked for an [`Engine`](crate::image::Engine) alone.
pub(crate) const ENGINE_ARGUMENT: &str = "engine";

/// The arguments, as [`super::Compiler`] gives them.
pub(super) fn arguments(profile: &str, limits: CompileLimits) -> [String; 4] {
    [
        "compile-worker".into(),
        profile.into(),
        limits.memory_bytes.to_string(),
        limits.cpu.as_secs().max(1).to_string(),
    ]
}

fn read_arguments(words: &[OsString]) -> Option<(Profile, CompileLimits)> {
    let [verb, profile, memory, cpu] = words else { return None };
    if verb != "compile-worker" {
        return None;
    }
    let limits = CompileLimits {
        memory_bytes: memory.to_str()?.parse().ok()?,
        cpu: Duration::from_secs(cpu.to_str()?.parse().ok()?),
        wall: Duration::MAX,
    };
    Some((profile.to_str()?.parse().ok()?, limits))
}

/// Judges the component on standard input; the verdict goes to standard output.
///
/// # Errors
/// It was not started by a loader, or cannot go on. What the component is to blame for is a verdict.
pub fn main() -> Result<(), CompileProcessError> {
    let words: Vec<_> = env::args_os().skip(1).collect();
    if let [_, what, components] = words.as_slice()
        && what == ENGINE_ARGUMENT
        && let Some(components) = components.to_str().and_then(|count| count.parse().ok())
    {
        return describe(components);
    }
    let (profile, limits) = read_arguments(&words).ok_or(CompileProcessError::NotStartedByUs)?;
    let system = |what| move |source| CompileProcessError::System { what, source };
    // Who is started by hand has a terminal or a pipe there.
    let is_ours = |fd: &dyn AsFd| {
        rustix::fs::fstat(fd.as_fd()).is_ok_and(|stat| {
            rustix::fs::FileType::from_raw_mode(stat.st_mode) == rustix::fs::FileType::RegularFile
        })
    };
    if !is_ours(&io::stdin()) || !is_ours(&io::stdout()) {
        return Err(CompileProcessError::NotStartedByUs);
    }
    limit(limits).map_err(system("cannot limit the compiler"))?;
    // Looks into files.
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    // From here on: nothing but what it holds. What the machine lacks of it, the machine's doctor says.
    confine::this_process(&Confinement::compiler())
        .map_err(system("cannot confine the compiler"))?;
    let threads = threads(processors);
    let engine = compiler_engine(profile, threads > 1).map_err(CompileProcessError::Engine)?;
    let linker = ImageLinker::new(&engine).map_err(CompileProcessError::Engine)?;

    let mut component = Vec::new();
    io::stdin().read_to_end(&mut component).map_err(system("cannot read the component"))?;
    let (verdict, code) = match judge(&engine, &linker, &component) {
        Ok((survey, code)) => (Verdict::Compiled(survey), code),
        Err(refusal) => (Verdict::Refused(refusal), Vec::new()),
    };
    let write = || {
        let verdict = postcard::to_allocvec(&verdict).map_err(io::Error::other)?;
        let length = u32::try_from(verdict.len()).map_err(io::Error::other)?;
        let mut output = io::stdout().lock();
        output.write_all(&length.to_le_bytes())?;
        output.write_all(&verdict)?;
        output.write_all(&code)?;
        output.flush()
    };
    write().map_err(system("cannot hand over what was compiled"))
}

/// Says what the engine is called here.
fn describe(components: u32) -> Result<(), CompileProcessError> {
    let system = |what| move |source| CompileProcessError::System { what, source };
    let room = Room::of_this_process();
    let (admitted, _) = room.admits(components.min(COMPONENTS_MAX));
    let profile = Engines::within(admitted, &room).map_err(CompileProcessError::Engine)?.profile();
    let layers = confine::this_process(&Confinement::worker(Vec::new()))
        .map_err(system("cannot be confined"))?;
    let engine = compiler_engine(profile, false).map_err(CompileProcessError::Engine)?;
    let engine = crate::image::Engine {
        profile: profile.as_str().to_owned(),
        name: name_of(&engine),
        layers,
    };
    let text = serde_json::to_string(&engine).map_err(io::Error::other);
    let said = text.and_then(|text| writeln!(io::stdout(), "{text}"));
    said.map_err(system("cannot say what the engine is called"))
}

/// Digests all that the compiler's output depends on.
fn name_of(engine: &Engine) -> String {
    struct Digest(blake3::Hasher);
    impl std::hash::Hasher for Digest {
        fn finish(&self) -> u64 {
            let hash = self.0.finalize();
            let (head, _) = hash.as_bytes().split_first_chunk().unwrap_or((&[0; 8], &[]));
            u64::from_le_bytes(*head)
        }
        fn write(&mut self, bytes: &[u8]) {
            self.0.update(bytes);
        }
    }
    let mut digest = Digest(blake3::Hasher::new());
    std::hash::Hash::hash(&engine.precompile_compatibility_hash(), &mut digest);
    digest.0.finalize().to_hex().get(..16).unwrap_or_default().to_owned()
}

/// Each step is cheaper than the next.
fn judge(
    engine: &Engine,
    linker: &ImageLinker,
    component: &[u8],
) -> Result<(Survey, Vec<u8>), Refusal> {
    let mut survey = survey(component)?;
    let contract = |error: ContractError| Refusal::Contract(error.to_string());
    let series = linker.check_names(&survey.imports, &survey.exports).map_err(contract)?;
    series.name().clone_into(&mut survey.contract);
    // One that can't be compiled even so is told by the compiler what is wrong with it.
    if let Some(skeleton) = skeleton(component)
        && let Ok(skeleton) = Component::new(engine, skeleton)
    {
        linker.link(&skeleton).map_err(contract)?;
    }
    let code = engine.precompile_component(component).map_err(|error| refused(&error))?;
    Ok((survey, code))
}

fn refused(error: &wasmtime::Error) -> Refusal {
    let mut text = format!("{error:#}");
    text.truncate(text.floor_char_boundary(WORDS_BYTES_MAX));
    // As the validator says it of each feature that is off, and the translator of what it lacks.
    let is_feature = text.contains("enabled")
        || text.contains("feature")
        || text.contains("not supported")
        || text.contains("unsupported");
    // As it says it of each of its own limits: the numbers are in it.
    let is_limit = text.contains("exceeds limit")
        || text.contains("exceed")
        || text.contains("too large")
        || text.contains("too many");
    if is_feature {
        Refusal::Feature(text)
    } else if is_limit {
        Refusal::TooMuch(format!("it is too large in one respect: {text}"))
    } else {
        Refusal::Invalid(text)
    }
}

/// Sets this process's limits, and no higher ones than it has.
fn limit(limits: CompileLimits) -> io::Result<()> {
    let set = |resource, value: u64, hard_above: u64| {
        let Rlimit { maximum, .. } = getrlimit(resource);
        let least = |value: u64| maximum.map_or(value, |maximum| maximum.min(value));
        let limit = Rlimit {
            current: Some(least(value)),
            maximum: Some(least(value.saturating_add(hard_above))),
        };
        setrlimit(resource, limit).map_err(io::Error::from)
    };
    // It holds what it is given for its input and its output, and writes no dump of a stranger's code.
    set(Resource::Core, 0, 0)?;
    set(Resource::Fsize, CODE_BYTES_MAX, 0)?;
    // At the soft one it ends by SIGXCPU; the hard one is a second later.
    set(Resource::Cpu, limits.cpu.as_secs().max(1), 1)?;
    set(Resource::As, limits.memory_bytes, 0)
}

/// How many threads compile it. Those that can't be made are done without.
fn threads(processors: usize) -> usize {
    let wanted = processors.min(THREADS_MAX);
    if wanted == 1 {
        return 1;
    }
    match rayon::ThreadPoolBuilder::new().num_threads(wanted).build_global() {
        Ok(()) => wanted,
        Err(_) => 1,
    }
}
