//! A component without its code.
//!
//! Whether the types of what a component imports and exports fit the contract is known once it is compiled;
//! that takes a Python daemon half a minute. The same component with a trap in the place of each function's
//! body has the same types, and is compiled in milliseconds.

use std::convert::Infallible;

use wasm_encoder::{
    CodeSection, Component, Function,
    reencode::{Error, Reencode, ReencodeComponent},
};
use wasmparser::{FunctionBody, Parser};

/// Takes the bodies out.
struct Bodiless;

impl Reencode for Bodiless {
    type Error = Infallible;

    fn parse_function_body(
        &mut self,
        code: &mut CodeSection,
        _: FunctionBody<'_>,
    ) -> Result<(), Error<Infallible>> {
        let mut body = Function::new([]);
        body.instructions().unreachable().end();
        code.function(&body);
        Ok(())
    }
}

impl ReencodeComponent for Bodiless {}

/// The same component, whose functions trap. None if the encoder does not know something in it: then its
/// types are known only when it is compiled.
pub(super) fn skeleton(component: &[u8]) -> Option<Vec<u8>> {
    let mut skeleton = Component::new();
    Bodiless.parse_component(&mut skeleton, Parser::new(0), component).ok()?;
    Some(skeleton.finish())
}
