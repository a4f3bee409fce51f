//! Connection strings as libpq reads them; passwords that stay hidden.

use std::os::unix::fs::PermissionsExt;

use super::*;

fn read(text: &str, environment: &[(&str, &str)]) -> Result<Conninfo, ConninfoError> {
    let owned: Vec<(String, String)> =
        environment.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    Conninfo::read(text, &|name| {
        owned.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone())
    })
}

/// `user@place,place/database password` of what was read.
fn check(text: &str, environment: &[(&str, &str)], expected: &str) {
    let read = read(text, environment).unwrap();
    let places: Vec<String> = read.hosts.iter().map(Host::to_string).collect();
    let password = read.password.as_ref().map_or("-", Password::expose);
    assert_eq!(
        format!("{}@{}/{} {password}", read.user, places.join(","), read.database),
        expected,
        "{text}"
    );
}

#[test]
fn pairs() {
    check("host=db1 user=backup", &[], "backup@db1:5432/postgres -");
    check("host = db1  port=6432 user='o o'", &[], "o o@db1:6432/postgres -");
    check(
        r"host=/run/pg user='it\'s \\ me' password='a b'",
        &[],
        r"it's \ me@/run/pg/.s.PGSQL.5432/postgres a b",
    );
    check("host=a,b port=1,2 user=u dbname='ö \"x\"'", &[], "u@a:1,b:2/ö \"x\" -");
    check("host=a,b port=7 user=u", &[], "u@a:7,b:7/postgres -");
    check("hostaddr=::1 user=u", &[], "u@::1:5432/postgres -");
    check("user=u host=a password=''", &[("PGPASSWORD", "")], "u@a:5432/postgres -");
}

#[test]
fn addresses() {
    check("postgresql://backup@db1", &[], "backup@db1:5432/postgres -");
    check("postgres://u:p%40ss%3A@[::1]:6432/orders?sslmode=require", &[], "u@::1:6432/orders p@ss:");
    check("postgresql://u@%2Frun%2Fpg:7/db", &[], "u@/run/pg/.s.PGSQL.7/db -");
    check("postgresql:///db?host=/run/pg&user=u", &[], "u@/run/pg/.s.PGSQL.5432/db -");
    check("postgresql://u@a:1,b,c:3", &[], "u@a:1,b:5432,c:3/postgres -");
    check("postgresql://u@a?password=x", &[], "u@a:5432/postgres x");
    assert_eq!(read("postgresql://u@a?ssl=true", &[]).unwrap().sslmode, SslMode::Require);
}

#[test]
fn the_environment_fills_what_is_open() {
    let environment =
        [("PGHOST", "db9"), ("PGPORT", "99"), ("PGUSER", "eve"), ("PGPASSWORD", "pw"), ("PGDATABASE", "d")];
    check("", &environment, "eve@db9:99/d pw");
    check("host=a port=1 user=u password=x dbname=y", &environment, "u@a:1/y x");
}

#[test]
fn a_service_stands_between_the_string_and_the_environment() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("services");
    std::fs::write(&file, "# ours\n[other]\nhost=no\n[orders]\nhost=db3\nport = 7\nuser=s\n[x]\nuser=x\n")
        .unwrap();
    let file = file.to_str().unwrap();
    let environment =
        [("PGSERVICEFILE", file), ("PGUSER", "eve"), ("PGDATABASE", "d"), ("PGSYSCONFDIR", "/nowhere")];
    check("service=orders port=8", &environment, "s@db3:8/d -");
    let error = read("service=missing", &environment).unwrap_err();
    assert!(matches!(error, ConninfoError::NoSuchService { .. }), "{error}");
}

#[test]
fn wrong_strings_are_refused_and_never_shown() {
    for (text, said) in [
        ("orders", "not followed by '='"),
        ("password=secret oops", "not followed by '='"),
        ("password='secret", "does not end"),
        ("hots=db1", "'hots' is not a keyword"),
        ("sslmode=allow", "sslmode cannot be 'allow'"),
        ("port=0", "port cannot be '0'"),
        ("port=65536", "port cannot be '65536'"),
        ("host=a,b,c port=1,2", "port lists 2 values for 3 hosts"),
        ("hostaddr=db1", "hostaddr cannot be 'db1'"),
        ("connect_timeout=soon", "connect_timeout cannot be 'soon'"),
        ("sslcert=/x", "sslcert and sslkey go together"),
        ("postgresql://u:secret", "port cannot be '(not shown)'"),
        ("postgresql://u:p@secret@db1/", "a host contains '@'"),
        ("postgresql://u:secret%zz@db1/", "'%'"),
        ("postgresql://u:secret%00@db1/", "'%'"),
        ("postgresql://[::1/", "no ']'"),
    ] {
        let error = read(text, &[("PGUSER", "u")]).unwrap_err();
        assert!(error.to_string().contains(said), "{text}: {error}");
        assert!(!format!("{error} {error:?} {}", error.hint()).contains("secret"), "{text}: {error:?}");
    }
}

#[test]
fn a_password_is_not_printed() {
    let read = read("host=a user=u password=secret", &[]).unwrap();
    assert!(!format!("{read:?}").contains("secret"));
}

#[test]
fn a_password_file_that_others_may_read_is_not_used() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pass");
    std::fs::write(&file, "*:*:*:*:secret\n").unwrap();
    let conninfo = read("host=db1 user=u", &[("PGPASSFILE", file.to_str().unwrap())]).unwrap();
    for (mode, expected) in [(0o600, Some("secret")), (0o640, None), (0o604, None)] {
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
        let found = conninfo.password_for(&conninfo.hosts[0]);
        assert_eq!(found.as_ref().map(Password::expose), expected, "{mode:o}");
    }
}
