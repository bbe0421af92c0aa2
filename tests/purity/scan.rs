//! Rust as tokens: paths and literals, without tests and documentation.

use proc_macro2::{Delimiter, TokenStream, TokenTree};

/// All paths of a source, those of its `use` trees one by one, `super` resolved.
pub fn paths(text: &str, module: &[String]) -> Vec<Vec<String>> {
    let mut paths = Vec::new();
    collect(without_tests(text.parse().expect("Rust")), &[], &mut paths);
    paths
        .into_iter()
        .map(|path| absolute(path, module))
        .collect()
}

/// `self` and `super` as paths from `crate`.
fn absolute(path: Vec<String>, module: &[String]) -> Vec<String> {
    let up = path.iter().take_while(|part| *part == "super").count();
    if up == 0 {
        return path;
    }
    let stays = module.len().saturating_sub(up);
    ["crate".to_owned()]
        .into_iter()
        .chain(module.iter().take(stays).cloned())
        .chain(path.into_iter().skip(up))
        .collect()
}

/// All paths: `a::b`, and what is in braces after `a::`; names of one part only where they stand alone.
fn collect(tokens: TokenStream, prefix: &[String], paths: &mut Vec<Vec<String>>) {
    let mut tokens = tokens.into_iter().peekable();
    let mut path: Vec<String> = prefix.to_vec();
    let mut fresh = true;
    let mut importing = !prefix.is_empty();
    let mut colons = 0;
    let flush = |path: &mut Vec<String>, importing: bool, paths: &mut Vec<Vec<String>>| {
        let parts = std::mem::replace(path, prefix.to_vec());
        let named = parts.len() > 1
            || importing
            || parts
                .iter()
                .any(|part| super::NAMES.contains(&part.as_str()));
        if named && parts.len() > prefix.len() {
            paths.push(parts);
        }
    };
    while let Some(token) = tokens.next() {
        match token {
            TokenTree::Ident(ident) => {
                let ident = ident.to_string();
                if colons != 2 && !fresh {
                    flush(&mut path, importing, paths);
                }
                match ident.as_str() {
                    "use" => importing = true,
                    // The new name is no path.
                    "as" => {
                        tokens.next();
                    }
                    // `std::time::{self}` is `std::time`.
                    "self" if !prefix.is_empty() => paths.push(prefix.to_vec()),
                    _ => path.push(ident),
                }
                (fresh, colons) = (path.len() == prefix.len(), 0);
            }
            TokenTree::Punct(punct) if punct.as_char() == ':' => colons += 1,
            TokenTree::Punct(punct) if punct.as_char() == '*' && colons == 2 => {
                path.push("*".into());
                colons = 0;
            }
            TokenTree::Group(group) => {
                let nested = colons == 2 && group.delimiter() == Delimiter::Brace;
                if nested {
                    collect(group.stream(), &path, paths);
                    path = prefix.to_vec();
                } else {
                    flush(&mut path, importing, paths);
                    collect(group.stream(), &[], paths);
                }
                (fresh, colons) = (true, 0);
            }
            TokenTree::Punct(punct) => {
                flush(&mut path, importing, paths);
                importing &= punct.as_char() != ';';
                (fresh, colons) = (true, 0);
            }
            TokenTree::Literal(_) => {
                flush(&mut path, importing, paths);
                (fresh, colons) = (true, 0);
            }
        }
    }
    flush(&mut path, importing, paths);
}

/// Leaves out what `#[cfg(test)]` is on, and documentation.
fn without_tests(tokens: TokenStream) -> TokenStream {
    let mut kept: Vec<TokenTree> = Vec::new();
    let mut tokens = tokens.into_iter().peekable();
    while let Some(token) = tokens.next() {
        if !is_hash(&token) {
            kept.push(within(token));
            continue;
        }
        // `#![…]` is for the whole file.
        let inner = tokens
            .next_if(|next| matches!(next, TokenTree::Punct(punct) if punct.as_char() == '!'));
        let Some(TokenTree::Group(attribute)) = tokens.peek() else {
            kept.push(token);
            continue;
        };
        let text = attribute.stream().to_string().replace(' ', "");
        tokens.next();
        if text == "cfg(test)" && inner.is_none() {
            // The item ends with its braces or a semicolon; further attributes are brackets.
            for token in tokens.by_ref() {
                match token {
                    TokenTree::Group(group) if group.delimiter() == Delimiter::Brace => break,
                    TokenTree::Punct(punct) if punct.as_char() == ';' => break,
                    _ => {}
                }
            }
        }
    }
    kept.into_iter().collect()
}

fn within(token: TokenTree) -> TokenTree {
    match token {
        TokenTree::Group(group) => TokenTree::Group(proc_macro2::Group::new(
            group.delimiter(),
            without_tests(group.stream()),
        )),
        other => other,
    }
}

fn is_hash(token: &TokenTree) -> bool {
    matches!(token, TokenTree::Punct(punct) if punct.as_char() == '#')
}

/// Literals that are wanted.
pub fn literals(text: &str, wanted: fn(&str) -> bool) -> Vec<String> {
    fn walk(tokens: TokenStream, wanted: fn(&str) -> bool, found: &mut Vec<String>) {
        for token in tokens {
            match token {
                TokenTree::Literal(literal) if wanted(&literal.to_string()) => {
                    found.push(literal.to_string());
                }
                TokenTree::Group(group) => walk(group.stream(), wanted, found),
                _ => {}
            }
        }
    }
    let mut found = Vec::new();
    walk(
        without_tests(text.parse().expect("Rust")),
        wanted,
        &mut found,
    );
    found
}
