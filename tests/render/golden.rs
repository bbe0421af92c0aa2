//! Files that hold what is expected, to the byte.

use std::path::{Path, PathBuf};

use quorate::render::Style;

/// 100 columns without colours, as in a log.
pub const WIDE: Style = Style {
    color: false,
    width: 100,
};
/// 60 columns.
pub const NARROW: Style = Style {
    color: false,
    width: 60,
};
/// 100 columns in colours.
pub const COLOURED: Style = Style {
    color: true,
    width: 100,
};

pub fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Compares with a file of the repository, or writes it.
pub fn compare(path: &Path, found: &str) {
    let asked = ["QUORATE_BLESS", "QUORATE_UPDATE"];
    if asked
        .iter()
        .any(|name| std::env::var_os(name).is_some_and(|value| value == "1"))
    {
        if let Some(directory) = path.parent() {
            std::fs::create_dir_all(directory).unwrap();
        }
        std::fs::write(path, found).unwrap();
        return;
    }
    // Raw: no wildcard of the expected text may hide a difference.
    let expected = snapbox::Data::read_from(path, Some(snapbox::data::DataFormat::Text)).raw();
    snapbox::Assert::new().eq(found, expected);
}

/// Compares with a golden file.
pub fn golden(name: &str, found: &str) {
    compare(&root().join("tests/pure/golden").join(name), found);
}

/// Compares what a function writes at two widths and in colours.
pub fn in_every_style(name: &str, write: impl Fn(Style) -> String) {
    let wide = write(WIDE);
    golden(&format!("{name}.txt"), &wide);
    golden(&format!("{name}.narrow.txt"), &write(NARROW));
    let coloured = write(COLOURED);
    golden(&format!("{name}.ansi"), &coloured);
    // Colours add nothing but colours.
    assert_eq!(anstream::adapter::strip_str(&coloured).to_string(), wide);
    assert!(coloured.contains('\u{1b}'));
    for text in [&wide, &coloured] {
        assert!(text.ends_with('\n'));
        assert!(
            text.lines().all(|line| !line.ends_with(' ')),
            "blanks at the end of a line:\n{text}"
        );
    }
}
