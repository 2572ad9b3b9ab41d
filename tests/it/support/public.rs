//! The public items of the crate, read from its sources.
//!
//! A small part of what the compiler does: modules in files, `use` and `pub use` of the crate's own names,
//! inherent and trait impls of named types. What a macro writes is not seen.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use quote::ToTokens;
use syn::{Attribute, Expr, Item, Lit, Meta, UseTree, Visibility};

/// A module of the crate, by its path from the root: `["worker", "config"]`.
type At = Vec<String>;

/// What a name stands for: the module in which it is defined, and its name there.
type Definition = (At, String);

/// All modules of the crate.
pub struct Sources {
    modules: BTreeMap<At, Module>,
}

struct Module {
    public: bool,
    note: String,
    docs: String,
    items: Vec<Item>,
}

/// One public name.
#[derive(Debug)]
pub struct Entry {
    /// From the root, such as `watchbell::client::NewRun`.
    pub path: String,
    /// The rest of its line: signature, fields, traits.
    pub text: String,
    pub docs: String,
    /// The type or trait that it belongs to.
    pub owner: Option<String>,
    /// What the docs of its modules say.
    pub module_docs: String,
    /// Another name of something that has a line already, or a list of traits.
    pub is_alias: bool,
}

impl Sources {
    pub fn read() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
        let mut sources = Self { modules: BTreeMap::new() };
        sources.load(vec![], &root.join("lib.rs"), &root, true, String::new());
        sources
    }

    fn load(&mut self, at: At, file: &Path, dir: &Path, public: bool, note: String) {
        let text = std::fs::read_to_string(file).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        let parsed = syn::parse_file(&text).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
        for item in &parsed.items {
            let Item::Mod(module) = item else { continue };
            if module.content.is_some() {
                continue; // unit tests
            }
            let name = module.ident.to_string();
            let file: PathBuf = dir.join(format!("{name}.rs"));
            let public = public && is_public(&module.vis) && !is_hidden(&module.attrs);
            let note = format!("{note}{}", condition(&module.attrs));
            self.load([at.clone(), vec![name.clone()]].concat(), &file, &dir.join(name), public, note);
        }
        self.modules.insert(at, Module { public, note, docs: docs(&parsed.attrs), items: parsed.items });
    }

    /// Every public name, sorted by its line.
    pub fn entries(&self) -> Vec<Entry> {
        let mut names: BTreeMap<Definition, Vec<(String, String)>> = BTreeMap::new();
        let mut entries = vec![];
        for (at, module) in self.modules.iter().filter(|(_, module)| module.public) {
            for item in &module.items {
                if let (Some((name, vis, attrs)), false) = (named(item), matches!(item, Item::Mod(_))) {
                    if is_public(vis) && !is_hidden(attrs) {
                        names.entry((at.clone(), name.clone())).or_default().push((path(at, &name), String::new()));
                    }
                } else if let Item::Use(item) = item
                    && is_public(&item.vis)
                    && !is_hidden(&item.attrs)
                {
                    for (name, target) in leaves(&item.tree) {
                        let note = format!("{}{}", module.note, condition(&item.attrs));
                        match self.resolve(at, &target) {
                            Some(definition) => names.entry(definition).or_default().push((path(at, &name), note)),
                            None => {
                                entries.push(Entry::alias(path(at, &name), format!(" = {}{note}", target.join("::"))))
                            }
                        }
                    }
                }
            }
        }
        for (definition, mut paths) in names {
            // where it is defined, else the innermost module that shows it
            paths.sort_by_key(|(shown, _)| {
                (*shown != path(&definition.0, &definition.1), std::cmp::Reverse(shown.len()))
            });
            let (shown, _) = paths.remove(0);
            entries.extend(paths.into_iter().map(|(alias, note)| Entry::alias(alias, format!(" = {shown}{note}"))));
            self.describe(&definition, &shown, &mut entries);
        }
        entries.sort_by(|a, b| (&a.path, &a.text).cmp(&(&b.path, &b.text)));
        entries
    }

    fn describe(&self, definition: &Definition, shown: &str, entries: &mut Vec<Entry>) {
        let (at, name) = definition;
        let mut module_docs = String::new();
        for depth in 0..=at.len() {
            module_docs += &self.modules[&at[..depth]].docs;
        }
        let note = &self.modules[at].note;
        let mut add = |path: String, text: String, attrs: &[Attribute], owner: Option<&str>| {
            let text = format!("{text}{}{note}", condition(attrs));
            let owner = owner.map(str::to_owned);
            let (docs, module_docs) = (docs(attrs), module_docs.clone());
            entries.push(Entry { path, text, docs, owner, module_docs, is_alias: false });
        };
        let items = self.modules[at].items.iter();
        for item in items.filter(|item| named(item).is_some_and(|(found, ..)| found == *name)) {
            match item {
                Item::Fn(f) => add(shown.into(), signature(&f.sig), &f.attrs, None),
                Item::Const(c) => add(shown.into(), format!(": {}", tokens(&c.ty)), &c.attrs, None),
                Item::Type(t) => {
                    add(shown.into(), format!("{} = {}", tokens(&t.generics), tokens(&t.ty)), &t.attrs, None)
                }
                Item::Struct(s) => {
                    add(shown.into(), format!("{}: struct{}", tokens(&s.generics), traits(&s.attrs)), &s.attrs, None);
                    for (i, field) in s.fields.iter().enumerate().filter(|(_, f)| is_public(&f.vis)) {
                        let name = field.ident.as_ref().map_or(i.to_string(), ToString::to_string);
                        let text = format!(": {}", tokens(&field.ty));
                        add(format!("{shown}::{name}"), text, &field.attrs, Some(shown));
                    }
                }
                Item::Enum(e) => {
                    add(shown.into(), format!("{}: enum{}", tokens(&e.generics), traits(&e.attrs)), &e.attrs, None);
                    for variant in e.variants.iter().filter(|variant| !is_hidden(&variant.attrs)) {
                        let text = fields(&variant.fields);
                        add(format!("{shown}::{}", variant.ident), text, &variant.attrs, Some(shown));
                    }
                }
                Item::Trait(t) => {
                    let bounds =
                        if t.supertraits.is_empty() { String::new() } else { format!(": {}", tokens(&t.supertraits)) };
                    add(shown.into(), format!("{}: trait{bounds}", tokens(&t.generics)), &t.attrs, None);
                    for member in &t.items {
                        if let syn::TraitItem::Fn(f) = member {
                            add(format!("{shown}::{}", f.sig.ident), signature(&f.sig), &f.attrs, Some(shown));
                        }
                    }
                }
                _ => {}
            }
        }
        for (module, item) in self.impls_of(definition) {
            let note = condition(&item.attrs);
            if let Some((_, of, _)) = &item.trait_ {
                let text = format!(": impl{} {}{note}", tokens(&item.generics), tokens(of));
                entries.push(Entry::alias(shown.to_owned(), text));
                continue;
            }
            let mut module_docs = module_docs.clone();
            module_docs += &self.modules[module].docs;
            for member in &item.items {
                let (name, text, vis, attrs) = match member {
                    syn::ImplItem::Fn(f) => (&f.sig.ident, signature(&f.sig), &f.vis, &f.attrs),
                    syn::ImplItem::Const(c) => (&c.ident, format!(": {}", tokens(&c.ty)), &c.vis, &c.attrs),
                    _ => continue,
                };
                if is_public(vis) && !is_hidden(attrs) {
                    let text = format!("{text}{}{note}", condition(attrs));
                    let (path, docs, module_docs) = (format!("{shown}::{name}"), docs(attrs), module_docs.clone());
                    let owner = Some(shown.to_owned());
                    entries.push(Entry { path, text, docs, owner, module_docs, is_alias: false });
                }
            }
        }
    }

    fn impls_of(&self, definition: &Definition) -> impl Iterator<Item = (&At, &syn::ItemImpl)> {
        self.modules.iter().flat_map(move |(at, module)| {
            module.items.iter().filter_map(move |item| {
                let Item::Impl(item) = item else { return None };
                let syn::Type::Path(of) = &*item.self_ty else { return None };
                let of: Vec<String> = of.path.segments.iter().map(|segment| segment.ident.to_string()).collect();
                (self.resolve(at, &of).as_ref() == Some(definition)).then_some((at, item))
            })
        })
    }

    /// What a path means in a module; none for names of other crates.
    fn resolve(&self, at: &At, target: &[String]) -> Option<Definition> {
        let (first, rest) = target.split_first()?;
        match (first.as_str(), rest) {
            ("crate", rest) => self.resolve(&vec![], rest),
            ("self", rest) => self.resolve(at, rest),
            ("super", rest) => self.resolve(&at[..at.len().checked_sub(1)?].to_vec(), rest),
            (name, []) => {
                let module = &self.modules[at];
                if module.items.iter().any(|item| named(item).is_some_and(|(found, ..)| found == name)) {
                    return Some((at.clone(), name.to_owned()));
                }
                let uses = module.items.iter().filter_map(|item| if let Item::Use(u) = item { Some(u) } else { None });
                let leaves: Vec<_> = uses.flat_map(|item| leaves(&item.tree)).collect();
                if let Some((_, path)) = leaves.iter().find(|(found, _)| found == name) {
                    return if path == target { None } else { self.resolve(at, path) };
                }
                let globs = leaves.iter().filter(|(found, path)| found == "*" && path != &["*"]);
                let mut inner = globs.map(|(_, path)| [path.clone(), vec![name.to_owned()]].concat());
                inner.find_map(|path| self.resolve(at, &path))
            }
            (name, rest) => {
                let inner = [at.clone(), vec![name.to_owned()]].concat();
                if self.modules.contains_key(&inner) { self.resolve(&inner, rest) } else { None }
            }
        }
    }
}

impl Entry {
    fn alias(path: String, text: String) -> Self {
        Self { path, text, docs: String::new(), owner: None, module_docs: String::new(), is_alias: true }
    }
}

fn path(at: &At, name: &str) -> String {
    ["watchbell"].into_iter().chain(at.iter().map(String::as_str)).chain([name]).collect::<Vec<_>>().join("::")
}

/// Name, visibility and attributes of an item that has them.
fn named(item: &Item) -> Option<(String, &Visibility, &[Attribute])> {
    let (ident, vis, attrs) = match item {
        Item::Fn(i) => (&i.sig.ident, &i.vis, &i.attrs),
        Item::Const(i) => (&i.ident, &i.vis, &i.attrs),
        Item::Type(i) => (&i.ident, &i.vis, &i.attrs),
        Item::Struct(i) => (&i.ident, &i.vis, &i.attrs),
        Item::Enum(i) => (&i.ident, &i.vis, &i.attrs),
        Item::Trait(i) => (&i.ident, &i.vis, &i.attrs),
        Item::Mod(i) => (&i.ident, &i.vis, &i.attrs),
        _ => return None,
    };
    Some((ident.to_string(), vis, attrs))
}

/// The names that a `use` brings, each with its path.
fn leaves(tree: &UseTree) -> Vec<(String, Vec<String>)> {
    match tree {
        UseTree::Path(p) => {
            let below = leaves(&p.tree).into_iter();
            below.map(|(name, rest)| (name, [vec![p.ident.to_string()], rest].concat())).collect()
        }
        UseTree::Name(n) => vec![(n.ident.to_string(), vec![n.ident.to_string()])],
        UseTree::Rename(r) => vec![(r.rename.to_string(), vec![r.ident.to_string()])],
        UseTree::Group(g) => g.items.iter().flat_map(leaves).collect(),
        UseTree::Glob(_) => vec![("*".to_owned(), vec![])],
    }
}

fn is_public(vis: &Visibility) -> bool {
    matches!(vis, Visibility::Public(_))
}

fn is_hidden(attrs: &[Attribute]) -> bool {
    attrs.iter().any(|attr| attr.path().is_ident("doc") && tokens(&attr.meta).contains("hidden"))
}

/// The documentation as it is written.
fn docs(attrs: &[Attribute]) -> String {
    let line = |attr: &Attribute| match &attr.meta {
        Meta::NameValue(pair) if pair.path.is_ident("doc") => match &pair.value {
            Expr::Lit(literal) => match &literal.lit {
                Lit::Str(text) => Some(text.value() + "\n"),
                _ => None,
            },
            _ => None,
        },
        _ => None,
    };
    attrs.iter().filter_map(line).collect()
}

/// What a variant holds, without documentation.
fn fields(fields: &syn::Fields) -> String {
    let held = fields.iter().map(|field| {
        let name = field.ident.as_ref().map(|name| format!("{name}: ")).unwrap_or_default();
        name + &tokens(&field.ty)
    });
    let held = held.collect::<Vec<_>>().join(", ");
    match fields {
        syn::Fields::Unit => String::new(),
        syn::Fields::Unnamed(_) => format!("({held})"),
        syn::Fields::Named(_) => format!(" {{ {held} }}"),
    }
}

/// ` [feature = "testing"]` for what exists only then.
fn condition(attrs: &[Attribute]) -> String {
    let conditions = attrs.iter().filter(|attr| attr.path().is_ident("cfg"));
    conditions
        .map(|attr| attr.meta.require_list().map(|list| format!(" [{}]", tokens(&list.tokens))).unwrap())
        .collect()
}

/// What a type says of itself by attributes.
fn traits(attrs: &[Attribute]) -> String {
    let kept = attrs.iter().filter(|a| ["derive", "non_exhaustive", "must_use"].iter().any(|k| a.path().is_ident(k)));
    kept.map(|attr| format!(" {}", tokens(&attr.meta).split(" = ").next().unwrap_or_default())).collect()
}

fn signature(signature: &syn::Signature) -> String {
    let text = tokens(signature);
    let (before, rest) = text.split_once("fn ").unwrap();
    let name = signature.ident.to_string();
    let before = if before.is_empty() { String::new() } else { format!(" [{}]", before.trim_end()) };
    format!("{}{before}", rest.strip_prefix(&name).unwrap())
}

/// Tokens as one would type them, in one line.
pub fn tokens(node: &impl ToTokens) -> String {
    let mut text = node.to_token_stream().to_string().split_whitespace().collect::<Vec<_>>().join(" ");
    for (from, to) in [
        (" :: ", "::"),
        (":: ", "::"),
        (" ,", ","),
        (" ;", ";"),
        (" :", ":"),
        ("& ", "&"),
        ("? ", "?"),
        ("( ", "("),
        (" )", ")"),
        (" (", "("),
        ("< ", "<"),
        (" <", "<"),
        (" >", ">"),
        ("[ ", "["),
        (" ]", "]"),
        ("->(", "-> ("),
        ("-> (", "-> ("),
        (", }", " }"),
        (",)", ")"),
        ("' ", "'"),
        ("&mut", "&mut"),
        ("= >", "=>"),
        ("- >", "->"),
        ("->", " ->"),
        ("  ", " "),
        (",>", ">"),
        ("&'a", "&'a"),
    ] {
        text = text.replace(from, to);
    }
    text
}
