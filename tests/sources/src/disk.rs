//! A file system that is played: directories, inodes that are given again, links, times, and steps of
//! others between any two calls of the reader.

use std::{
    cell::RefCell,
    collections::{BTreeMap, VecDeque},
    ffi::OsString,
    io,
    path::{Path, PathBuf},
    rc::Rc,
};

use duende::source::follow::{FileId, Files, Listed, LogFile, Stat};

use duende_history::Draw;

/// A file's content. It lives as long as it has a name or somebody has it open.
#[derive(Debug)]
pub(crate) struct Inode {
    pub(crate) number: u64,
    pub(crate) content: Vec<u8>,
    /// The lines that end in it.
    pub(crate) lines: Vec<usize>,
    pub(crate) links: u64,
    born_ns: i64,
    /// How often the reader had begun to look when it was made.
    born_at_look: u64,
    pub(crate) modified_ns: i64,
}

pub(crate) type Held = Rc<RefCell<Inode>>;

/// What a name stands for.
#[derive(Clone, Debug)]
pub(crate) enum Node {
    File(Held),
    Link(PathBuf),
}

/// One step of whoever rotates.
#[derive(Clone, Debug)]
pub(crate) enum Step {
    Rename(PathBuf, PathBuf),
    /// Makes an empty file, unless there is one; the writer opens it some time.
    Create(PathBuf),
    /// The writer opens the file that has the name.
    Reopen,
    Copy(PathBuf, PathBuf),
    /// A copy, and the file is removed, while nobody writes.
    SetAside(PathBuf, PathBuf),
    Truncate(PathBuf),
    Unlink(PathBuf),
    HardLink(PathBuf, PathBuf),
    /// A link, by a rename over the old one.
    Point(PathBuf, PathBuf),
    /// The beginning of a compressed copy, and all of it in place of the file.
    Compressing(PathBuf, PathBuf),
    Compressed(PathBuf, PathBuf),
    Touch(PathBuf),
    /// A copy in the place of a file, while nobody writes.
    Replace(PathBuf),
}

/// Everything that is stored, and what is about to happen to it.
#[derive(Debug)]
pub(crate) struct Disk {
    names: BTreeMap<PathBuf, Node>,
    free: Vec<u64>,
    next: u64,
    pub(crate) wall_ns: i64,
    pub(crate) script: VecDeque<Step>,
    /// Drawn from for steps between the reader's calls; none: nobody interferes.
    pub(crate) interference: Option<Draw>,
    pub(crate) followed: PathBuf,
    pub(crate) writer: Option<Held>,
    /// Writers that did not reopen.
    pub(crate) late: Vec<Held>,
    /// The lines of each file that was emptied.
    pub(crate) emptied: Vec<Vec<usize>>,
    /// What is done meanwhile is printed.
    pub(crate) is_told: bool,
    /// A writer is in the middle of a line.
    pub(crate) is_half: bool,
    /// Something was emptied, or lost its last name.
    pub(crate) destroyed: usize,
    /// How often the reader has begun to look.
    pub(crate) looks: u64,
    /// The last look that is over.
    pub(crate) looked: u64,
    /// Lines of files that came and went between two looks.
    pub(crate) unseen: Vec<usize>,
}

impl Disk {
    pub(crate) fn new(followed: PathBuf) -> Self {
        Self {
            names: BTreeMap::new(),
            free: Vec::new(),
            next: 100,
            wall_ns: 1_700_000_000_000_000_000,
            script: VecDeque::new(),
            interference: None,
            followed,
            writer: None,
            late: Vec::new(),
            emptied: Vec::new(),
            is_told: false,
            is_half: false,
            destroyed: 0,
            looks: 0,
            looked: 0,
            unseen: Vec::new(),
        }
    }

    fn new_inode(&mut self) -> Held {
        self.wall_ns += 1_000;
        let number = self.free.pop().unwrap_or_else(|| {
            self.next += 1;
            self.next
        });
        let (content, lines) = (Vec::new(), Vec::new());
        let (born_ns, modified_ns) = (self.wall_ns, self.wall_ns);
        let born_at_look = self.looks;
        let inode = Inode { number, content, lines, links: 0, born_ns, born_at_look, modified_ns };
        Rc::new(RefCell::new(inode))
    }

    /// What a path leads to, through links.
    pub(crate) fn find(&self, path: &Path) -> Option<Held> {
        let mut path = path.to_owned();
        for _ in 0..8 {
            match self.names.get(&path)? {
                Node::File(held) => return Some(held.clone()),
                Node::Link(to) => path = path.parent()?.join(to),
            }
        }
        None
    }

    pub(crate) fn link(&self, path: &Path) -> Option<PathBuf> {
        match self.names.get(path)? {
            Node::Link(to) => Some(to.clone()),
            Node::File(_) => None,
        }
    }

    pub(crate) fn paths(&self) -> Vec<PathBuf> {
        let is_file = |(_, node): &(&PathBuf, &Node)| matches!(node, Node::File(_));
        self.names.iter().filter(is_file).map(|(path, _)| path.clone()).collect()
    }

    fn put(&mut self, path: PathBuf, node: Node) {
        if let Node::File(held) = &node {
            held.borrow_mut().links += 1;
        }
        self.wall_ns += 1_000;
        if let Some(old) = self.names.insert(path, node) {
            self.drop_node(old);
        }
    }

    fn drop_node(&mut self, node: Node) {
        let Node::File(held) = node else { return };
        let number = {
            let mut inode = held.borrow_mut();
            inode.links -= 1;
            if inode.links > 0 {
                return;
            }
            self.destroyed += 1;
            if inode.born_at_look >= self.looked {
                self.unseen.extend_from_slice(&inode.lines);
            }
            inode.number
        };
        // Its number is given again once nobody has it open.
        if Rc::strong_count(&held) == 1 {
            self.free.push(number);
        }
    }

    /// A look is over.
    pub(crate) fn has_looked(&mut self) {
        self.looked = self.looks;
    }

    /// Adds to an open file.
    pub(crate) fn append(&mut self, held: &Held, bytes: &[u8], line: Option<usize>) {
        self.wall_ns += 1_000;
        let mut inode = held.borrow_mut();
        inode.content.extend_from_slice(bytes);
        inode.lines.extend(line);
        if inode.links == 0 {
            // Nobody who does not have it open will ever know.
            self.unseen.extend(line);
        }
        inode.modified_ns = self.wall_ns;
    }

    /// The lines that somebody could still read by a name.
    pub(crate) fn named_lines(&self) -> Vec<usize> {
        let mut lines = Vec::new();
        for (path, node) in &self.names {
            // A private copy is nobody's log.
            let is_private = path.extension().is_some_and(|extension| extension == "bak");
            if let Node::File(held) = node
                && !is_private
            {
                lines.extend_from_slice(&held.borrow().lines);
            }
        }
        lines
    }

    /// Plays one step.
    pub(crate) fn step(&mut self, step: Step) {
        match step {
            Step::Rename(from, to) => {
                if let Some(node) = self.names.remove(&from) {
                    if let Node::File(held) = &node {
                        held.borrow_mut().links -= 1;
                    }
                    self.put(to, node);
                }
            }
            Step::Create(path) => {
                if self.find(&path).is_none() {
                    let held = self.new_inode();
                    self.put(path, Node::File(held));
                }
            }
            Step::Reopen => {
                let path = self.followed.clone();
                let mut target = path.clone();
                while let Some(to) = self.link(&target) {
                    target = target.parent().unwrap_or(Path::new("/")).join(to);
                }
                self.step(Step::Create(target));
                let now = self.find(&path);
                let before = std::mem::replace(&mut self.writer, now);
                self.late.extend(before);
            }
            Step::Copy(from, to) => {
                if let Some(held) = self.find(&from) {
                    let copy = self.new_inode();
                    {
                        let (held, mut copy) = (held.borrow(), copy.borrow_mut());
                        copy.content.clone_from(&held.content);
                        copy.lines.clone_from(&held.lines);
                    }
                    self.put(to, Node::File(copy));
                }
            }
            // One line may be a greeting that each file begins with; and who copies in the middle of a line
            // breaks it.
            Step::SetAside(from, to) => {
                if !self.is_half
                    && self.find(&from).is_some_and(|held| held.borrow().lines.len() > 1)
                {
                    self.step(Step::Copy(from.clone(), to));
                    self.step(Step::Unlink(from));
                    self.step(Step::Reopen);
                    self.late.clear();
                }
            }
            Step::Truncate(path) => {
                self.wall_ns += 1_000;
                if let Some(held) = self.find(&path) {
                    let mut inode = held.borrow_mut();
                    self.destroyed += 1;
                    self.emptied.push(inode.lines.clone());
                    inode.content.clear();
                    inode.lines.clear();
                    inode.modified_ns = self.wall_ns;
                }
            }
            Step::Unlink(path) => {
                if let Some(node) = self.names.remove(&path) {
                    self.drop_node(node);
                }
            }
            Step::HardLink(from, to) => {
                if let Some(held) = self.find(&from) {
                    self.put(to, Node::File(held));
                }
            }
            Step::Point(path, to) => self.put(path, Node::Link(to)),
            Step::Compressing(from, to) => {
                // What a late writer adds to a file that is being compressed goes nowhere; `delaycompress`
                // is for that.
                let found = self.find(&from);
                self.late.retain(|late| !found.as_ref().is_some_and(|held| Rc::ptr_eq(held, late)));
                if let Some(held) = self.find(&from).filter(|_| !self.is_half) {
                    let copy = self.new_inode();
                    let packed = pack(&to, &held.borrow().content);
                    copy.borrow_mut().content = packed[..packed.len() / 2].to_vec();
                    self.put(to, Node::File(copy));
                }
            }
            Step::Compressed(from, to) => {
                if let (Some(held), Some(copy)) = (self.find(&from), self.find(&to)) {
                    {
                        let (held, mut copy) = (held.borrow(), copy.borrow_mut());
                        copy.content = pack(&to, &held.content);
                        copy.lines.clone_from(&held.lines);
                        // As gzip and zstd leave it.
                        copy.modified_ns = held.modified_ns;
                    }
                    self.step(Step::Unlink(from));
                }
            }
            // Whoever replaces a file whose writer is in the middle of a line breaks it.
            Step::Replace(_) if self.is_half => {}
            Step::Replace(path) => {
                // One line may be a greeting that each file begins with.
                if self.find(&path).is_none_or(|held| held.borrow().lines.len() < 2) {
                    return;
                }
                let copy = path.with_extension("tmp");
                self.step(Step::Copy(path.clone(), copy.clone()));
                self.step(Step::Rename(copy, path));
                // What is written to the old file makes two logs of one.
                self.late.clear();
                self.writer = self.find(&self.followed);
            }
            Step::Touch(path) => {
                if let Some(held) = self.find(&path) {
                    self.wall_ns += 1_000;
                    held.borrow_mut().modified_ns = self.wall_ns;
                }
            }
        }
    }

    /// Somebody may do something between two calls of the reader.
    fn interfere(&mut self) {
        let Some(draw) = &mut self.interference else { return };
        if draw.once_in(4)
            && let Some(step) = self.script.pop_front()
        {
            if self.is_told {
                println!("        meanwhile {step:?}");
            }
            self.step(step);
        }
    }
}

fn pack(name: &Path, content: &[u8]) -> Vec<u8> {
    use std::io::Write;
    if name.extension().is_some_and(|extension| extension == "zst") {
        let level = ruzstd::encoding::CompressionLevel::Fastest;
        return ruzstd::encoding::compress_to_vec(content, level);
    }
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    let written = encoder.write_all(content).and_then(|()| encoder.finish());
    written.unwrap_or_default()
}

/// The disk as the reader has it.
#[derive(Clone, Debug)]
pub(crate) struct View(pub(crate) Rc<RefCell<Disk>>);

/// An open file of it.
#[derive(Clone, Debug)]
pub(crate) struct Open(Rc<RefCell<Disk>>, Held);

impl Open {
    /// The lines that it holds.
    pub(crate) fn lines(&self) -> Vec<usize> {
        self.1.borrow().lines.clone()
    }
}

fn stat(inode: &Inode) -> Stat {
    Stat {
        id: FileId { device: 1, inode: inode.number, born_ns: inode.born_ns },
        is_file: true,
        size: inode.content.len() as u64,
        modified_ns: inode.modified_ns,
        links: inode.links,
    }
}

impl Files for View {
    type File = Open;

    fn read_link(&self, path: &Path) -> io::Result<Option<PathBuf>> {
        self.0.borrow_mut().interfere();
        Ok(self.0.borrow().link(path))
    }

    fn stat(&self, path: &Path) -> io::Result<Option<Stat>> {
        self.0.borrow_mut().interfere();
        Ok(self.0.borrow().find(path).map(|held| stat(&held.borrow())))
    }

    fn open(&self, path: &Path) -> io::Result<Option<Open>> {
        self.0.borrow_mut().interfere();
        Ok(self.0.borrow().find(path).map(|held| Open(self.0.clone(), held)))
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<Listed>> {
        self.0.borrow_mut().interfere();
        let disk = self.0.borrow();
        let within = disk.names.iter().filter(|(path, _)| path.parent() == Some(directory));
        let listed = within.map(|(path, node)| Listed {
            name: path.file_name().map(OsString::from).unwrap_or_default(),
            inode: match node {
                Node::File(held) => held.borrow().number,
                Node::Link(_) => 1,
            },
        });
        Ok(listed.collect())
    }
}

impl LogFile for Open {
    fn stat(&self) -> io::Result<Stat> {
        self.0.borrow_mut().interfere();
        Ok(stat(&self.1.borrow()))
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.0.borrow_mut().interfere();
        let inode = self.1.borrow();
        let rest = usize::try_from(offset).ok().and_then(|offset| inode.content.get(offset..));
        let rest = rest.unwrap_or_default();
        let length = rest.len().min(buffer.len());
        buffer[..length].copy_from_slice(&rest[..length]);
        Ok(length)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        // The last one that had it open: this one and the argument of nobody else.
        if self.1.borrow().links == 0
            && Rc::strong_count(&self.1) == 1
            && let Ok(mut disk) = self.0.try_borrow_mut()
        {
            let number = self.1.borrow().number;
            disk.free.push(number);
        }
    }
}
