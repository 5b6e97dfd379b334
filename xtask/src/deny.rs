//! Licences, sources and duplicates of every dependency, by `deny.toml`, from what cargo knows already.
//!
//! The rules stand in `deny.toml` alone, as cargo-deny reads them; `cargo xtask nightly` runs cargo-deny
//! itself, with advisories. Here the same is found without compiling a tool first, so that no machine
//! passes a change over. A rule that this file can't follow is an error, and is never passed over either.
//!
//! What counts is what is built for the targets in `deny.toml`, with all features of the workspace: a
//! crate that waits behind a feature that nobody asks for is no part of it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::Command;

use serde::Deserialize;
use spdx::{Expression, Licensee, ParseMode};

use crate::shell::{self, Error, at};

/// What of `deny.toml` is followed here. Other keys are refused.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rules {
    graph: Graph,
    licenses: Licenses,
    bans: Bans,
    sources: Sources,
    /// For cargo-deny, which fetches the database of advisories.
    #[serde(rename = "advisories")]
    _advisories: serde::de::IgnoredAny,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Graph {
    all_features: bool,
    targets: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Licenses {
    allow: Vec<String>,
    /// How sure cargo-deny must be of a licence that it knows by its text. Here a text is no licence.
    #[serde(rename = "confidence-threshold")]
    _confidence_threshold: f32,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Bans {
    #[serde(rename = "multiple-versions")]
    _multiple_versions: Deny,
    #[serde(rename = "wildcards")]
    _wildcards: Deny,
    allow_wildcard_paths: bool,
    skip: Vec<Skip>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Sources {
    #[serde(rename = "unknown-registry")]
    _unknown_registry: Deny,
    #[serde(rename = "unknown-git")]
    _unknown_git: Deny,
    allow_registry: Vec<String>,
    allow_git: Vec<String>,
}

/// The one answer that is known here.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Deny {
    Deny,
}

/// A second version that is known: `NAME@VERSION`, where the version may be the beginning of one.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Skip {
    #[serde(rename = "crate")]
    spec: String,
    #[serde(rename = "reason")]
    _reason: String,
}

impl Skip {
    fn matches(&self, name: &str, version: &str) -> bool {
        self.spec.split_once('@').is_some_and(|(of, begins)| {
            let rest = version.strip_prefix(begins);
            of == name && rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        })
    }
}

/// What `cargo metadata` prints, as far as it matters.
#[derive(Debug, Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    workspace_members: Vec<String>,
    resolve: Resolve,
}

#[derive(Debug, Deserialize)]
struct Package {
    id: String,
    name: String,
    version: String,
    license: Option<String>,
    source: Option<String>,
    dependencies: Vec<Dependency>,
    features: BTreeMap<String, Vec<String>>,
}

/// A line of a manifest.
#[derive(Debug, Deserialize)]
struct Dependency {
    name: String,
    rename: Option<String>,
    req: String,
    kind: Option<String>,
    optional: bool,
    path: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Resolve {
    nodes: Vec<Node>,
}

/// What a package is built with.
#[derive(Debug, Deserialize)]
struct Node {
    id: String,
    deps: Vec<Edge>,
    features: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Edge {
    /// As code calls it.
    name: String,
    pkg: String,
}

/// Holds the dependencies against `deny.toml`.
pub(crate) fn check() -> Result<(), Error> {
    let path = shell::root().join("deny.toml");
    let text = fs::read_to_string(&path).map_err(at(&path))?;
    let rules: Rules = toml::from_str(&text).map_err(|error| {
        Error::Unproved(format!(
            "deny.toml: {error}\nwhat `cargo xtask test` is to follow must be known to xtask/src/deny.rs"
        ))
    })?;
    let mut cargo = Command::new("cargo");
    cargo.current_dir(shell::root()).args(["metadata", "--format-version", "1", "--locked"]);
    if rules.graph.all_features {
        cargo.arg("--all-features");
    }
    for target in &rules.graph.targets {
        cargo.args(["--filter-platform", target]);
    }
    let metadata: Metadata = serde_json::from_str(&shell::output(&mut cargo)?)
        .map_err(|error| Error::Unproved(format!("`cargo metadata`: {error}")))?;
    let findings = findings(&rules, &metadata);
    if findings.is_empty() {
        return Ok(());
    }
    Err(Error::Unproved(format!(
        "{}\ndeny.toml says what is allowed, and why",
        findings.join("\n")
    )))
}

/// Everything that is not as the rules say, in words.
fn findings(rules: &Rules, metadata: &Metadata) -> Vec<String> {
    let built = built(metadata);
    let mut findings = duplicates(&rules.bans.skip, &built);
    for package in &built {
        let Package { name, version, .. } = package;
        if let Some(why) = licence(&rules.licenses.allow, package) {
            findings.push(format!("licence: {name} {version}: {why}"));
        }
        if let Some(source) = package.source.as_deref().filter(|it| !is_allowed(&rules.sources, it))
        {
            findings.push(format!("source: {name} {version} comes from {source}"));
        }
        let own = metadata.workspace_members.contains(&package.id);
        for line in &package.dependencies {
            let path = rules.bans.allow_wildcard_paths && line.path.is_some();
            // What others test with is not built here.
            let counts = own || line.kind.as_deref() != Some("dev");
            if line.req == "*" && !path && counts {
                let of = &line.name;
                findings.push(format!("wildcard: {name} {version} takes any version of {of}"));
            }
        }
    }
    findings
}

/// The packages that are built, in the order of their names.
fn built(metadata: &Metadata) -> Vec<&Package> {
    let packages: BTreeMap<&str, &Package> =
        metadata.packages.iter().map(|package| (package.id.as_str(), package)).collect();
    let nodes: BTreeMap<&str, &Node> =
        metadata.resolve.nodes.iter().map(|node| (node.id.as_str(), node)).collect();
    let mut seen = BTreeSet::new();
    let mut open: Vec<&str> = metadata.workspace_members.iter().map(String::as_str).collect();
    while let Some(id) = open.pop() {
        let (Some(package), Some(node)) = (packages.get(id), nodes.get(id)) else { continue };
        if seen.insert(id) {
            let edges = node.deps.iter().filter(|edge| is_active(package, node, edge));
            open.extend(edges.map(|edge| edge.pkg.as_str()));
        }
    }
    let mut built: Vec<_> = seen.iter().filter_map(|id| packages.get(id).copied()).collect();
    built.sort_by(|a, b| (&a.name, &a.version).cmp(&(&b.name, &b.version)));
    built
}

/// Whether a package is built with a dependency: cargo names those too that only a feature would bring
/// which nobody asks for.
fn is_active(package: &Package, node: &Node, edge: &Edge) -> bool {
    let called = |line: &Dependency| line.rename.as_ref().unwrap_or(&line.name).clone();
    let mut lines = package
        .dependencies
        .iter()
        .filter(|line| called(line).replace('-', "_") == edge.name)
        .peekable();
    // A crate may call itself otherwise than its package; then cargo's word stands.
    lines.peek().is_none()
        || lines.any(|line| !line.optional || is_asked_for(package, node, &called(line)))
}

/// Whether a feature that is on brings an optional dependency.
fn is_asked_for(package: &Package, node: &Node, dependency: &str) -> bool {
    node.features.iter().any(|feature| {
        feature == dependency
            || package.features.get(feature).into_iter().flatten().any(|part| {
                let part = part.strip_prefix("dep:").unwrap_or(part);
                // `name?/feature` asks for the feature only if something else brings the dependency.
                part == dependency
                    || part.split_once('/').is_some_and(|(name, _)| name == dependency)
            })
    })
}

/// Second versions that nobody gave a reason for, and reasons without a second version.
fn duplicates(skips: &[Skip], built: &[&Package]) -> Vec<String> {
    let mut versions: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    // A version that is made of a newer one is no second one: the old names for the new types.
    let made_of_itself =
        |package: &Package| package.dependencies.iter().any(|line| line.name == package.name);
    for package in built.iter().filter(|package| !made_of_itself(package)) {
        versions.entry(&package.name).or_default().push(&package.version);
    }
    let mut findings = Vec::new();
    for (name, versions) in &versions {
        let left: Vec<_> = versions
            .iter()
            .filter(|version| !skips.iter().any(|skip| skip.matches(name, version)))
            .copied()
            .collect();
        if left.len() > 1 {
            findings.push(format!("duplicate: {name}: {}", left.join(", ")));
        }
    }
    for skip in skips {
        let needed = versions.iter().any(|(name, versions)| {
            versions.len() > 1 && versions.iter().any(|version| skip.matches(name, version))
        });
        if !needed {
            findings.push(format!("unneeded: nothing is skipped by {}", skip.spec));
        }
    }
    findings
}

/// What is wrong with a package's licence.
fn licence(allowed: &[String], package: &Package) -> Option<String> {
    let Some(text) = package.license.as_deref() else { return Some("it names none".to_owned()) };
    // With a stroke for `OR`, as older crates have it.
    let expression = match Expression::parse_mode(text, ParseMode::LAX) {
        Ok(expression) => expression,
        Err(error) => return Some(format!("`{text}` is none: {}", error.reason)),
    };
    let satisfied = expression.evaluate(|wanted| {
        allowed.iter().any(|licence| {
            Licensee::parse(licence).is_ok_and(|licensee| licensee.satisfies(wanted))
        })
    });
    (!satisfied).then(|| format!("`{text}` is not allowed"))
}

fn is_allowed(sources: &Sources, source: &str) -> bool {
    let (allowed, address) = if let Some(address) = source.strip_prefix("git+") {
        (&sources.allow_git, address.split(['?', '#']).next().unwrap_or_default())
    } else {
        let kinds = ["registry+", "sparse+"];
        let address = kinds.iter().find_map(|kind| source.strip_prefix(kind));
        (&sources.allow_registry, address.unwrap_or(source))
    };
    allowed.iter().any(|allowed| allowed == address)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: &str = r#"
        [graph]
        all-features = true
        targets = []
        [licenses]
        allow = ["MIT", "Apache-2.0 WITH LLVM-exception", "Unicode-3.0"]
        confidence-threshold = 0.9
        [bans]
        multiple-versions = "deny"
        wildcards = "deny"
        allow-wildcard-paths = true
        skip = [{ crate = "old@0.2", reason = "a test" }]
        [sources]
        unknown-registry = "deny"
        unknown-git = "deny"
        allow-registry = ["https://registry"]
        allow-git = ["https://git/known"]
        [advisories]
        yanked = "deny"
    "#;

    /// A package of a tree that is in order, but for what `with` changes in it.
    fn package(name: &str, version: &str, with: &[(&str, serde_json::Value)]) -> serde_json::Value {
        let mut package = serde_json::json!({
            "id": format!("{name}@{version}"), "name": name, "version": version, "license": "MIT",
            "source": "registry+https://registry", "dependencies": [], "features": {},
        });
        for (key, value) in with {
            package[key] = value.clone();
        }
        package
    }

    /// What is found in a workspace of one crate, `own`, that is built with `packages`.
    fn check(packages: &[serde_json::Value], expected: &[&str]) {
        let edges: Vec<_> = packages
            .iter()
            .map(|package| serde_json::json!({ "name": package["name"], "pkg": package["id"] }))
            .collect();
        let lines: Vec<_> = packages
            .iter()
            .map(|package| {
                serde_json::json!({ "name": package["name"], "rename": null, "req": "^1",
                    "kind": null, "optional": package["name"] == "waiting" })
            })
            .collect();
        let own = package(
            "own",
            "1.0.0",
            &[("source", serde_json::Value::Null), ("dependencies", lines.into())],
        );
        let mut nodes =
            vec![serde_json::json!({ "id": "own@1.0.0", "deps": edges, "features": [] })];
        for package in packages {
            nodes.push(serde_json::json!({ "id": package["id"], "deps": [], "features": [] }));
        }
        let mut all = packages.to_vec();
        all.push(own);
        let metadata = serde_json::json!({
            "packages": all, "workspace_members": ["own@1.0.0"], "resolve": { "nodes": nodes },
        });
        let metadata: Metadata = serde_json::from_value(metadata).unwrap();
        let rules: Rules = toml::from_str(RULES).unwrap();
        assert_eq!(findings(&rules, &metadata), expected);
    }

    /// The second version that the rules know of.
    fn known() -> [serde_json::Value; 2] {
        [package("old", "0.2.7", &[]), package("old", "1.0.0", &[])]
    }

    #[test]
    fn duplicates_are_found_and_so_are_skips_without_one() {
        check(&known(), &[]);
        check(&[package("old", "1.0.0", &[])], &["unneeded: nothing is skipped by old@0.2"]);
        check(&[package("old", "0.2.7", &[])], &["unneeded: nothing is skipped by old@0.2"]);
        // 0.20 is not a 0.2.
        let mut packages = known().to_vec();
        packages.push(package("old", "0.20.0", &[]));
        check(&packages, &["duplicate: old: 0.20.0, 1.0.0"]);
        let mut packages = known().to_vec();
        packages.extend([package("twice", "2.0.0", &[]), package("twice", "1.0.0", &[])]);
        check(&packages, &["duplicate: twice: 1.0.0, 2.0.0"]);
        // Made of the newer one.
        packages.pop();
        let newer = serde_json::json!([{ "name": "twice", "rename": null, "req": "^2", "kind": null,
            "optional": false }]);
        packages.push(package("twice", "1.0.0", &[("dependencies", newer)]));
        check(&packages, &[]);
        // Nobody asks for the feature that would bring it.
        packages.pop();
        packages.extend([package("waiting", "1.0.0", &[]), package("waiting", "2.0.0", &[])]);
        check(&packages, &[]);
    }

    #[test]
    fn licences_are_expressions() {
        for (licence, wrong) in [
            ("MIT OR GPL-3.0-only", None),
            ("GPL-3.0-only/MIT", None),
            ("MIT AND Unicode-3.0", None),
            ("(GPL-2.0-only OR MIT) AND Unicode-3.0", None),
            ("Apache-2.0 WITH LLVM-exception", None),
            ("Apache-2.0", Some("`Apache-2.0` is not allowed")),
            ("GPL-3.0-only", Some("`GPL-3.0-only` is not allowed")),
            ("MIT AND GPL-3.0-only", Some("`MIT AND GPL-3.0-only` is not allowed")),
            ("Ours", Some("`Ours` is none: unknown term")),
        ] {
            let mut packages = known().to_vec();
            packages.push(package("it", "1.0.0", &[("license", licence.into())]));
            let expected = wrong.map(|wrong| format!("licence: it 1.0.0: {wrong}"));
            check(&packages, &expected.iter().map(String::as_str).collect::<Vec<_>>());
        }
        let mut packages = known().to_vec();
        packages.push(package("it", "1.0.0", &[("license", serde_json::Value::Null)]));
        check(&packages, &["licence: it 1.0.0: it names none"]);
    }

    #[test]
    fn sources_are_listed() {
        for (source, allowed) in [
            ("registry+https://registry", true),
            ("sparse+https://registry", true),
            ("git+https://git/known?branch=main#0123", true),
            ("git+https://git/other#0123", false),
            ("registry+https://other", false),
        ] {
            let mut packages = known().to_vec();
            packages.push(package("it", "1.0.0", &[("source", source.into())]));
            let finding = [&*format!("source: it 1.0.0 comes from {source}")];
            check(&packages, &finding[..usize::from(!allowed)]);
        }
    }

    #[test]
    fn a_version_is_chosen() {
        let line = |path: serde_json::Value, kind: serde_json::Value| {
            serde_json::json!([{ "name": "any", "rename": null, "req": "*", "kind": kind,
                "optional": false, "path": path }])
        };
        let null = serde_json::Value::Null;
        for (lines, found) in [
            (line(null.clone(), null.clone()), true),
            (line("/here".into(), null.clone()), false),
            (line(null, "dev".into()), false),
        ] {
            let mut packages = known().to_vec();
            packages.push(package("it", "1.0.0", &[("dependencies", lines)]));
            let finding = ["wildcard: it 1.0.0 takes any version of any"];
            check(&packages, &finding[..usize::from(found)]);
        }
    }

    /// What this file does not know, it does not pass over.
    #[test]
    fn unknown_rules_are_refused() {
        for (from, to) in [
            ("wildcards = \"deny\"", "wildcards = \"warn\""),
            ("all-features = true", "all-features = true\nexclude = []"),
            ("[advisories]", "[output]\n[advisories]"),
        ] {
            assert!(toml::from_str::<Rules>(&RULES.replace(from, to)).is_err(), "{to}");
        }
    }
}
