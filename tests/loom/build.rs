//! Says that this is the crate in which loom takes the place of std: the sources of others that it
//! includes look at this.

fn main() {
    println!("cargo::rustc-cfg=duende_loom");
}
