use super::*;
use crate::Options;

#[test]
fn sharing_a_file_to_write_is_refused_and_to_read_is_not() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("cache.brasa");
    let open = |options: Options| Engine::open_on_disk(&path, &options).map(drop);
    open(Options::default().exclusive(true)).unwrap();
    let refused = open(Options::default().exclusive(false)).unwrap_err();
    assert!(
        refused.to_string().contains("one writing handle"),
        "{refused}"
    );
    let reader = Options::default().exclusive(false).read_only(true);
    let _first = Engine::open_on_disk(&path, &reader).unwrap();
    open(reader).unwrap();
}
