//! A class is graded: submissions that attack the grading, what is kept from run to run, and what a teacher
//! gets. An attack does no harm to anything but folders that a test has made.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use check::Failure;
use libtest_mimic::{Failed, Trial};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use tempfile::TempDir;
use tests::{as_given_out, check_command, ensure, workspace};

type Outcome = Result<(), Failure>;

fn main() {
    let arguments = tests::arguments(16);
    let lacks = |program: &str| Command::new(program).arg("--version").output().is_err();
    let (lacks_python, lacks_bubblewrap) = (lacks("python3"), lacks("bwrap"));
    let mut trials = Vec::new();
    let mut add = |name: String, run: Box<dyn FnOnce() -> Outcome + Send>| {
        let needs_python = name.contains("(needs python3)") || name.contains("python3 and");
        let needs_bubblewrap = name.contains("bubblewrap)");
        let run = move || run().map_err(|error| Failed::from(error.to_string()));
        let is_missing = needs_python && lacks_python || needs_bubblewrap && lacks_bubblewrap;
        trials.push(Trial::test(name, run).with_ignored_flag(is_missing));
    };
    add("an exercise in Rust is built and checked".to_owned(), Box::new(rust_class));
    let name =
        "attack: the network, and the view of others, in namespaces (needs python3 and bubblewrap)";
    add(name.to_owned(), Box::new(namespaces));
    for (name, run) in OTHERS {
        add(format!("{name} (needs python3)"), Box::new(run));
    }
    for (name, look) in ATTACKS {
        add(format!("attack: {name} (needs python3)"), Box::new(move || look(attacked()?)));
    }
    for (name, look) in WITHOUT_LANDLOCK {
        let run = move || look(attacked_without_landlock()?);
        add(format!("attack without Landlock: {name} (needs python3)"), Box::new(run));
    }
    libtest_mimic::run(&arguments, trials).exit();
}

/// A folder of submissions and its report, and what was printed by the last run.
struct Ran {
    folder: TempDir,
    out: TempDir,
    /// Where submissions are checked.
    places: TempDir,
    status: Option<i32>,
    printed: String,
    rows: BTreeMap<String, BTreeMap<String, String>>,
}

/// The program behind the name, which may be a script that looks for it.
fn interpreter() -> &'static str {
    static PROGRAM: OnceLock<String> = OnceLock::new();
    PROGRAM.get_or_init(|| {
        let asked =
            Command::new("python3").args(["-c", "import sys; print(sys.executable)"]).output();
        let said = asked.map(|output| text(&output.stdout).trim().to_owned()).unwrap_or_default();
        if said.is_empty() { "python3".to_owned() } else { said }
    })
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn read(path: impl AsRef<Path>) -> Result<String, Failure> {
    let path = path.as_ref();
    Ok(fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?)
}

impl Ran {
    /// A folder for submissions of a task, each in Python, with the words of their command after the program.
    fn new(task: &str, limit: u32, words: &[&str]) -> Result<Ran, Failure> {
        let folder = tempfile::tempdir()?;
        let command: Vec<String> =
            [interpreter(), "-S"].iter().chain(words).map(|word| format!("{word:?}")).collect();
        let command = command.join(", ");
        let settings = format!("task = {task:?}\nlimit = {limit}\ncommand = [{command}]\n");
        fs::write(folder.path().join("class.toml"), settings)?;
        let (printed, rows) = (String::new(), BTreeMap::new());
        let [out, places] = [tempfile::tempdir()?, tempfile::tempdir()?];
        Ok(Ran { folder, out, places, status: None, printed, rows })
    }

    /// For step 03.
    fn step03() -> Result<Ran, Failure> {
        Ran::new("step03", 300, &["server.py", "--port", "{port}", "--root", "{root}"])
    }

    fn hand_in(&self, student: impl AsRef<OsStr>, code: &str) -> Outcome {
        let folder = self.folder.path().join(student.as_ref());
        fs::create_dir_all(&folder)?;
        Ok(fs::write(folder.join("server.py"), code)?)
    }

    fn command(&self, options: &[&str]) -> Result<Command, Failure> {
        let mut command = check_command()?;
        command.arg("class").arg(self.folder.path()).arg("--out").arg(self.out.path());
        command.args(options).env("FOLDER", self.folder.path()).env("REPORT", self.out.path());
        command.env("PLACES", self.places.path()).env("TMPDIR", self.places.path());
        Ok(command)
    }

    fn run(&mut self, options: &[&str]) -> Outcome {
        let output = self.command(options)?.output()?;
        self.status = output.status.code();
        self.printed = text(&output.stdout) + &text(&output.stderr);
        ensure!(matches!(self.status, Some(0 | 1)), "{:?}: {}", self.status, self.printed);
        self.read_rows()
    }

    fn read_rows(&mut self) -> Outcome {
        let mut table = csv::Reader::from_path(self.out.path().join("grades.csv"))?;
        let rows: Vec<BTreeMap<String, String>> = table.deserialize().collect::<Result<_, _>>()?;
        self.rows = rows.into_iter().map(|row| (row["student"].clone(), row)).collect();
        Ok(())
    }

    fn cell(&self, student: &str, column: &str) -> Result<&str, Failure> {
        let row = self.rows.get(student);
        let row = row.ok_or_else(|| format!("no {student} in {:?}", self.rows.keys()))?;
        Ok(row.get(column).ok_or_else(|| format!("no column {column}"))?)
    }

    /// That a student has all points.
    fn is_right(&self, student: &str) -> Outcome {
        let (points, of) = (self.cell(student, "points")?, self.cell(student, "of")?);
        let note = self.cell(student, "note")?;
        ensure!(points == of && of != "0", "{student}: {points} of {of}: {note}");
        Ok(())
    }

    fn has_note(&self, student: &str, words: &str) -> Outcome {
        let note = self.cell(student, "note")?;
        ensure!(note.contains(words), "{student}: no {words:?} in {note:?}");
        Ok(())
    }

    fn report(&self, student: &str) -> Result<Value, Failure> {
        let folder = self.out.path().join("students").join(student);
        Ok(serde_json::from_str(&read(folder.join("report.json"))?)?)
    }

    fn page(&self) -> Result<String, Failure> {
        read(self.out.path().join("index.html"))
    }
}

/// It needs no other file.
fn right() -> Result<String, Failure> {
    read(workspace().join("crates/check/servers/right/threads.py"))
}

/// Ends before it listens.
const ENDS: &str = "raise SystemExit('no server today')\n";

/// The same, after a moment for what it has started.
const ENDS_LATER: &str = "
import time
time.sleep(2)
raise SystemExit('no server today')
";

/// Listens, and hangs up on everybody.
const HANGS_UP: &str = "
import socket, sys
listener = socket.create_server(('127.0.0.1', int(sys.argv[2])), backlog=256)
while True:
    listener.accept()[0].close()
";

/// Writes a report with full marks behind all that its checker prints.
const FORGES: &str = "
import json, os, threading, time
check = {'name': 'forged', 'layer': 'wire', 'is_own': False, 'seconds': 0.1, 'failure': None}
line = json.dumps({'task': 'step03', 'level': 'core', 'seed': 1, 'command': 'forged', 'seconds': 1.0,
                   'checks': [check] * 20})
def forge(checker):
    while True:
        try:
            with open(f'/proc/{checker}/fd/1', 'r+b') as results:
                results.seek(1 << 20)
                results.write(b'\\n' + line.encode() + b'\\n')
        except OSError:
            pass
        time.sleep(0.01)
threading.Thread(target=forge, args=(os.getppid(),), daemon=True).start()
";

/// Makes what its checker prints longer than any memory.
const LENGTHENS: &str = "
import os
for number in (1, 2):
    for bits in (43, 42, 41):
        try:
            os.truncate(f'/proc/{os.getppid()}/fd/{number}', 1 << bits)
            break
        except OSError:
            pass
";

/// Removes the report, again and again.
const REMOVES: &str = "
import os, shutil, threading, time
def remove(report):
    while True:
        shutil.rmtree(report, ignore_errors=True)
        time.sleep(0.01)
threading.Thread(target=remove, args=(os.environ['REPORT'],), daemon=True).start()
";

/// Leaves a process that kills its checker, and then spoils the sites of this class for as long as it lives.
const KILLS: &str = "
import glob, os, signal, time
checker = os.getppid()
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        time.sleep(0.3)
        try:
            os.kill(checker, signal.SIGKILL)
        except OSError:
            pass
        while True:
            for name in glob.glob('/proc/[0-9]*/cmdline'):
                try:
                    words = open(name, 'rb').read().split(b'\\0')
                    root = words[words.index(b'--root') + 1]
                except (OSError, ValueError, IndexError):
                    continue
                if not root.startswith(os.environb[b'PLACES']):
                    continue
                for folder, _, pages in os.walk(root):
                    for page in pages:
                        try:
                            with open(os.path.join(folder, page), 'wb') as file:
                                file.write(b'spoiled')
                        except OSError:
                            pass
            time.sleep(0.01)
    os._exit(0)
";

/// Status 3 if its log has an end, 4 if it has none.
const LOGS: &str = "
import os
try:
    for piece in range(100):
        os.write(2, b'x' * (1 << 20))
except OSError:
    os._exit(3)
os._exit(4)
";

/// Status 3 if it cannot have so much memory, 4 if it can.
const ASKS_FOR_MEMORY: &str = "
import os
try:
    memory = bytearray(9 << 30)
except MemoryError:
    os._exit(3)
os._exit(4)
";

const USES_MEMORY: &str = "
import time
memory = [b'1' * (1 << 28) for piece in range(9)]
time.sleep(3600)
";

/// At most 1500, so that a failing test does not cost the machine.
const FORKS: &str = "
import os, time
for number in range(1500):
    try:
        if os.fork() == 0:
            time.sleep(3600)
    except OSError:
        raise SystemExit('no more processes')
time.sleep(3600)
";

const ESCAPES: &str = "raise SystemExit('\\x1b[2J\\x1b]0;owned\\x07 \\x9b2J')\n";

const READS_A_NEIGHBOUR: &str = "
import os
exec(open(os.environ['FOLDER'] + '/honest/server.py').read())
";

/// Status 3 if it is not allowed to connect to a server, 4 if there happens to be none.
const CONNECTS: &str = "
import os, socket
try:
    socket.create_connection(('127.0.0.1', 9))
except PermissionError:
    os._exit(3)
except OSError:
    pass
os._exit(4)
";

type Look = fn(&Ran) -> Outcome;

const ATTACKS: [(&str, Look); 17] = [
    ("everybody else has all points", |ran| {
        ran.is_right("honest")?;
        ran.is_right("zoe")
    }),
    ("forged marks do not count", is_not_forged),
    ("a log longer than any memory costs only its owner", |ran| {
        ensure!(!ran.cell("lengthens", "points")?.is_empty(), "{:?}", ran.rows);
        Ok(())
    }),
    ("a report that is removed is written all the same", is_complete),
    ("a folder named index.html is a student", |ran| ran.has_note("index.html", "no server today")),
    ("a checker that is killed, and what lives on", |ran| {
        ensure!(
            ran.cell("kills", "points")? != ran.cell("kills", "of")?,
            "{:?}",
            ran.rows["kills"]
        );
        nothing_runs(ran)
    }),
    ("a link to a neighbour's work is left out, and named", |ran| {
        ensure!(ran.cell("links", "points")? == "0", "{:?}", ran.rows["links"]);
        ran.has_note("links", "no link may lead out of the folder: server.py")
    }),
    ("a neighbour's work cannot be read", |ran| {
        if !has_landlock(ran) {
            return Ok(());
        }
        ran.has_note("reads", "Permission denied")
    }),
    ("a right server of the course cannot be handed in by its name", |ran| {
        if !has_landlock(ran) {
            return Ok(());
        }
        ensure!(ran.cell("borrows", "points")? == "0", "{:?}", ran.rows["borrows"]);
        ran.has_note("borrows", "Permission denied")
    }),
    ("another's server cannot be reached", |ran| {
        if !has_landlock(ran) {
            return Ok(());
        }
        ran.has_note("connects", "exit status: 3")
    }),
    ("a log has an end", |ran| ran.has_note("logs", "exit status: 3")),
    ("a process has not all memory", |ran| ran.has_note("asks", "exit status: 3")),
    ("memory has an end", |ran| ran.has_note("uses", "used more than 2 GiB of memory")),
    ("processes have an end", |ran| {
        let note = ran.cell("forks", "note")?;
        let is_limited = note.contains("no more processes") || note.contains("more than 1024");
        ensure!(is_limited, "{note}");
        Ok(())
    }),
    ("escape sequences reach neither terminal nor table", |ran| {
        let table = read(ran.out.path().join("grades.csv"))?;
        let obeyed = |text: &str| text.contains(['\u{1b}', '\u{7}', '\u{9b}']);
        ensure!(!obeyed(&ran.printed) && !obeyed(&table), "{:?}", ran.printed);
        let junit = read(ran.out.path().join("students/escapes/report.xml"))?;
        ensure!(!obeyed(&junit), "{junit:?}");
        ran.has_note("escapes", "\\u{1b}[2J")
    }),
    ("a spreadsheet runs no name", |ran| ran.has_note("'=cmd|' calc'!A0", "no server today")),
    ("a name that is no UTF-8 has a row", |ran| ran.has_note("caf\\xe9", "no server today")),
];

const WITHOUT_LANDLOCK: [(&str, Look); 4] = [
    ("those who come later have all points", |ran| ran.is_right("zoe")),
    ("forged marks do not count", is_not_forged),
    ("a report that is removed is written all the same", is_complete),
    ("a checker that is killed gets no points and a note, and nothing lives on", |ran| {
        ran.has_note("kills", "its checker was killed")?;
        ensure!(ran.cell("kills", "points")? == "0", "{:?}", ran.rows["kills"]);
        nothing_runs(ran)
    }),
];

/// All of it, that of Linux 6.12; of an older one the first line says so.
fn has_landlock(ran: &Ran) -> bool {
    ran.printed.contains("Landlock\n")
}

fn is_not_forged(ran: &Ran) -> Outcome {
    let report = ran.report("forges")?;
    ensure!(report["command"] != "forged" && report["failed"] != 0, "{report:#}");
    let (points, of) = (ran.cell("forges", "points")?, ran.cell("forges", "of")?);
    ensure!(points != of, "{points} of {of}");
    Ok(())
}

fn is_complete(ran: &Ran) -> Outcome {
    let page = ran.page()?;
    for student in ran.rows.keys().filter(|student| !student.starts_with('\'')) {
        let folder = ran.out.path().join("students").join(student);
        for name in ["index.html", "report.json", "report.xml"] {
            read(folder.join(name))?;
        }
        ensure!(page.contains(&format!(">{student}</a>")), "{student} is not in {page}");
    }
    Ok(())
}

fn nothing_runs(ran: &Ran) -> Outcome {
    let words = ran.folder.path().to_string_lossy().into_owned();
    for entry in fs::read_dir("/proc")?.flatten() {
        let environment = fs::read(entry.path().join("environ")).unwrap_or_default();
        let is_left = text(&environment).contains(&words);
        ensure!(!is_left, "{} still runs", text(&fs::read(entry.path().join("cmdline"))?));
    }
    Ok(())
}

/// All attacks in one class: each must leave the others alone.
fn attacked() -> Result<&'static Ran, Failure> {
    static RAN: OnceLock<Result<Ran, String>> = OnceLock::new();
    let ran = RAN.get_or_init(|| attack().map_err(|error| error.to_string()));
    Ok(ran.as_ref().map_err(String::as_str)?)
}

fn attack() -> Result<Ran, Failure> {
    let mut ran = Ran::step03()?;
    let right = right()?;
    for (student, code) in [
        ("honest", right.as_str()),
        ("zoe", &right),
        ("forges", &[FORGES, HANGS_UP].concat()),
        ("lengthens", &[LENGTHENS, ENDS_LATER].concat()),
        ("removes", &[REMOVES, ENDS_LATER].concat()),
        ("kills", &[KILLS, ENDS_LATER].concat()),
        ("reads", READS_A_NEIGHBOUR),
        ("connects", CONNECTS),
        ("logs", LOGS),
        ("asks", ASKS_FOR_MEMORY),
        ("uses", USES_MEMORY),
        ("forks", FORKS),
        ("escapes", ESCAPES),
        ("index.html", ENDS),
        ("=cmd|' calc'!A0", ENDS),
    ] {
        ran.hand_in(student, code)?;
    }
    ran.hand_in(OsStr::from_bytes(b"caf\xe9"), ENDS)?;
    ran.hand_in("borrows", ENDS)?;
    let ours = workspace().canonicalize()?.join("crates/check/servers/right/threads.py");
    let words = r#""--port", "{port}", "--root", "{root}""#;
    let command = format!("command = [{:?}, \"-S\", {ours:?}, {words}]\n", interpreter());
    fs::write(ran.folder.path().join("borrows/check.toml"), command)?;
    fs::create_dir(ran.folder.path().join("links"))?;
    symlink("../honest/server.py", ran.folder.path().join("links/server.py"))?;
    ran.run(&["--jobs", "3"])?;
    Ok(ran)
}

fn attacked_without_landlock() -> Result<&'static Ran, Failure> {
    static RAN: OnceLock<Result<Ran, String>> = OnceLock::new();
    let ran = RAN.get_or_init(|| {
        let attack = || -> Result<Ran, Failure> {
            let mut ran = Ran::step03()?;
            ran.hand_in("forges", &[FORGES, HANGS_UP].concat())?;
            ran.hand_in("kills", &[KILLS, ENDS_LATER].concat())?;
            ran.hand_in("removes", &[REMOVES, ENDS_LATER].concat())?;
            ran.hand_in("zoe", &right()?)?;
            ran.run(&["--jobs", "1", "--box", "limits"])?;
            Ok(ran)
        };
        attack().map_err(|error| error.to_string())
    });
    Ok(ran.as_ref().map_err(String::as_str)?)
}

/// Status 3 if it sees nobody else's process, file, or network.
const LOOKS_AROUND: &str = "
import glob, os, socket
seen = [name for name in glob.glob('/proc/[0-9]*/cmdline') if b'--jobs' in open(name, 'rb').read()]
try:
    seen += os.listdir(os.environ['FOLDER'])
except OSError:
    pass
try:
    socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'secret', ('192.0.2.1', 9))
    seen.append('network')
except OSError:
    pass
print(seen)
os._exit(4 if seen else 3)
";

fn namespaces() -> Outcome {
    let mut ran = Ran::step03()?;
    ran.hand_in("honest", &right()?)?;
    ran.hand_in("looks", LOOKS_AROUND)?;
    ran.hand_in("kills", &[KILLS, ENDS_LATER].concat())?;
    ran.run(&["--jobs", "2", "--box", "namespaces"])?;
    ran.is_right("honest")?;
    ran.has_note("looks", "exit status: 3")?;
    ensure!(ran.cell("kills", "points")? == "0", "{:?}", ran.rows["kills"]);
    nothing_runs(&ran)
}

type Other = (&'static str, fn() -> Outcome);

const OTHERS: [Other; 7] = [
    ("a hang and a crash cost nobody else anything", class),
    ("a time limit costs only what was not reached", cut_short),
    ("a submission that takes too long is ended with its server", || {
        let mut ran = Ran::new("step05", 2, &["server.py", "{port}", "{root}"])?;
        ran.hand_in("bob", "import time\ntime.sleep(86400)\n")?;
        ran.run(&[])?;
        ran.has_note("bob", "more than 2 seconds: 0 of ")?;
        nothing_runs(&ran)
    }),
    ("a report is kept: a late run adds to it", late),
    ("Ctrl-C keeps what is done, and the next run goes on", interrupted),
    ("a roster has a row for everybody, for Moodle and Canvas too", roster),
    ("a term joins reports, and a class page gives hints", term),
];

fn late() -> Outcome {
    let mut ran = Ran::step03()?;
    ran.hand_in("ada", ENDS)?;
    ran.hand_in("bob", ENDS)?;
    ran.run(&[])?;
    ensure!(ran.rows.len() == 2 && ran.printed.contains("ada: "), "{}", ran.printed);
    ensure!(ran.cell("ada", "checked")?.len() == 19, "{:?}", ran.rows);

    ran.hand_in("cleo", ENDS)?;
    ran.run(&[])?;
    ensure!(ran.rows.len() == 3, "{:?}", ran.rows);
    ensure!(ran.printed.contains("cleo: ") && !ran.printed.contains("ada: "), "{}", ran.printed);
    ran.run(&["--only", "ada"])?;
    ensure!(ran.rows.len() == 3, "{:?}", ran.rows);
    ensure!(ran.printed.contains("ada: ") && !ran.printed.contains("cleo: "), "{}", ran.printed);

    // Somebody who comes alone, in a folder for those who were late.
    for student in ["ada", "bob", "cleo"] {
        fs::remove_dir_all(ran.folder.path().join(student))?;
    }
    ran.hand_in("dan", ENDS)?;
    ran.run(&[])?;
    ensure!(ran.rows.len() == 4, "{:?}", ran.rows);
    let wrong = ran.command(&["--only", "eve"])?.output()?;
    ensure!(wrong.status.code() == Some(2), "{wrong:?}");
    // Two tasks have no place in one report.
    let other = Ran::new("step05", 300, &["server.py", "{port}", "{root}"])?;
    other.hand_in("ada", ENDS)?;
    let mut command = check_command()?;
    let command = command.arg("class").arg(other.folder.path()).arg("--out").arg(ran.out.path());
    let wrong = command.output()?;
    ensure!(wrong.status.code() == Some(2), "{wrong:?}");
    ensure!(text(&wrong.stderr).contains("holds a report on step03"), "{wrong:?}");
    Ok(())
}

fn interrupted() -> Outcome {
    let mut ran = Ran::step03()?;
    ran.hand_in("ada", ENDS)?;
    ran.hand_in("bob", "import time\ntime.sleep(86400)\n")?;
    ran.hand_in("cleo", ENDS)?;
    let mut class = ran.command(&["--jobs", "1"])?.stdout(Stdio::piped()).spawn()?;
    let lines = BufReader::new(class.stdout.take().ok_or("no output")?).lines();
    let seen = lines.map_while(Result::ok).any(|line| line.starts_with("ada: "));
    ensure!(seen, "ada was not checked");
    // Its row is written a moment after its line.
    check::wait_until("ada has a row", std::time::Duration::from_secs(60), || {
        ran.read_rows().is_ok() && ran.cell("ada", "checked").is_ok_and(|cell| !cell.is_empty())
    })?;
    kill(Pid::from_raw(class.id() as i32), Signal::SIGINT)?;
    ensure!(class.wait()?.code() == Some(130), "not ended by the signal");
    ran.read_rows()?;
    ran.has_note("ada", "no server today")?;
    ran.has_note("bob", "not checked yet")?;
    ensure!(ran.cell("bob", "points")?.is_empty(), "{:?}", ran.rows);
    nothing_runs(&ran)?;
    ran.hand_in("bob", ENDS)?;
    ran.run(&[])?;
    ensure!(ran.rows.len() == 3 && !ran.printed.contains("ada: "), "{}", ran.printed);
    ran.has_note("bob", "no server today")
}

fn roster() -> Outcome {
    let mut ran = Ran::step03()?;
    let table = "\u{feff}folder;name;number;e-mail\nzed;Zed Ü;3;zed@example.org\nada;Ada L;1;ada@example.org\n";
    fs::write(ran.folder.path().join("students.csv"), table)?;
    fs::write(ran.folder.path().join("all.zip"), "")?;
    fs::create_dir(ran.folder.path().join("__MACOSX"))?;
    ran.hand_in("ada", ENDS)?;
    ran.hand_in("guest", ENDS)?;
    ran.run(&[])?;
    ensure!(ran.printed.contains("ignored: __MACOSX, all.zip\n"), "{}", ran.printed);
    ensure!(ran.page()?.contains("all.zip"), "the page does not name what is ignored");
    ensure!(ran.rows.len() == 3, "{:?}", ran.rows);
    ran.has_note("zed", "nothing handed in")?;
    ensure!(ran.cell("zed", "points")? == "0", "{:?}", ran.rows);
    ensure!(ran.cell("ada", "e-mail")? == "ada@example.org", "{:?}", ran.rows);
    let moodle = read(ran.out.path().join("moodle.csv"))?;
    ensure!(
        moodle.starts_with("ID number,Email address,step03,feedback\n3,zed@example.org,0,"),
        "{moodle}"
    );
    ensure!(moodle.lines().count() == 3 && !moodle.contains("guest"), "{moodle}");
    let canvas = read(ran.out.path().join("canvas.csv"))?;
    ensure!(canvas.contains("\nAda L,,1,ada@example.org,,0\n"), "{canvas}");
    Ok(())
}

fn term() -> Outcome {
    let mut weeks = [Ran::step03()?, Ran::step03()?];
    let right = right()?;
    // As unzipping makes it, and as a formatter would.
    weeks[0].hand_in("ada/hand-in", &right)?;
    weeks[0].hand_in("bob", &right.replace("    ", "\t"))?;
    weeks[1].hand_in("bob", ENDS)?;
    let [first, second] = &mut weeks;
    first.run(&[])?;
    second.run(&[])?;
    first.is_right("ada")?;
    ensure!(first.status == Some(0), "{:?}: {}", first.status, first.printed);
    let page = first.page()?;
    let flag = "server.py is servers&#x2f;right&#x2f;threads.py, ada&#x2f;hand-in";
    ensure!(page.contains(flag), "{page}");
    let student = read(first.out.path().join("students/ada/index.html"))?;
    ensure!(student.contains("server.py --port {port}"), "{student}");
    ensure!(student.contains("href=\"report.xml\"") && !student.contains("bob"), "{student}");

    let out = tempfile::tempdir()?;
    let reports = [first.out.path(), second.out.path()];
    let output =
        check_command()?.arg("term").args(reports).arg("--out").arg(out.path()).output()?;
    ensure!(output.status.success(), "{output:?}");
    let mut table = csv::Reader::from_path(out.path().join("term.csv"))?;
    let rows: Vec<csv::StringRecord> = table.records().collect::<Result<_, _>>()?;
    let of = first.cell("ada", "of")?;
    let both = (2 * of.parse::<usize>()?).to_string();
    let expected = [["ada", of, ""], ["bob", of, "0"]];
    for (row, [student, week1, week2]) in rows.iter().zip(expected) {
        ensure!((&row[0], &row[4], &row[5]) == (student, week1, week2), "{row:?}");
        ensure!(row[7] == both, "{row:?}");
    }
    ensure!(rows.len() == 2, "{rows:?}");
    ensure!(read(out.path().join("index.html"))?.contains("<td>bob</td>"), "no page");
    Ok(())
}

fn class() -> Outcome {
    let mut ran = Ran::new("step05", 600, &["server.py", "--port", "{port}", "--root", "{root}"])?;
    ran.hand_in("ada", &read(workspace().join("crates/check/servers/right/http_server.py"))?)?;
    // It listens on no port, and is waited for as long as a compiler may take.
    ran.hand_in("bob", "import time\ntime.sleep(86400)\n")?;
    ran.hand_in("cleo", ENDS)?;
    fs::create_dir(ran.folder.path().join("eve"))?;
    let folder = ran.folder.path().join("dan <b>");
    for file in ["wrong/no_type.py", "right/threads.py"] {
        let to = folder.join(file);
        fs::create_dir_all(to.parent().ok_or("no parent")?)?;
        fs::copy(workspace().join("crates/check/servers").join(file), to)?;
    }
    let words = "\"wrong/no_type.py\", \"--port\", \"{port}\", \"--root\", \"{root}\"";
    let own = format!("command = [{:?}, {words}]", interpreter());
    fs::write(folder.join("check.toml"), own)?;
    ran.run(&["--jobs", "4", "--format", "gradescope"])?;
    ensure!(ran.status == Some(1) && ran.rows.len() == 5, "{:?}", ran.rows);
    ran.is_right("ada")?;
    ran.has_note("bob", "after a minute")?;
    ran.has_note("cleo", "no server today")?;
    ran.has_note("eve", "the folder has no file in it")?;
    ensure!(ran.cell("eve", "submitted")?.is_empty(), "{:?}", ran.rows["eve"]);
    let cleo = read(ran.out.path().join("students/cleo/index.html"))?;
    let points = format!("0 of {} points", ran.cell("cleo", "of")?);
    ensure!(cleo.contains(&points), "no {points:?} in {cleo}");
    ensure!(ran.cell("dan <b>", "Content-Type fits the file")? == "0", "{:?}", ran.rows);
    for (student, failures) in [("ada", "failures=\"0\""), ("dan <b>", "failures=\"1\"")] {
        let folder = ran.out.path().join("students").join(student);
        let results: Value = serde_json::from_str(&read(folder.join("results.json"))?)?;
        ensure!(results["tests"].is_array(), "{results}");
        let junit = read(folder.join("report.xml"))?;
        ensure!(junit.contains(failures), "{junit}");
        ensure!(ran.report(student)?["checks"].is_array(), "no report");
    }
    let page = ran.page()?;
    ensure!(page.contains("dan &lt;b&gt;") && !page.contains("<b>"), "{page}");
    let heading = page.find("What most failed").ok_or("no heading")?;
    let first = page[heading..].find("Content-Type fits the file");
    ensure!(first.is_some_and(|at| at < 300), "what most failed does not come first");
    nothing_runs(&ran)
}

/// Every check takes longer than it may when nothing is answered, so not all are reached; some are.
fn cut_short() -> Outcome {
    let silent = "
import socket, sys
listener = socket.create_server(('127.0.0.1', int(sys.argv[1])), backlog=256)
clients = []
while True:
    clients.append(listener.accept())
";
    let mut ran = Ran::new("step05", 30, &["server.py", "{port}", "{root}"])?;
    ran.hand_in("cleo", silent)?;
    ran.run(&[])?;
    let report = ran.report("cleo")?;
    let checks = report["checks"].as_array().ok_or("no checks")?;
    ensure!(checks.len() > 20, "{report:#}");
    let came = |check: &Value| check["failure"]["came"][0].as_str().map(str::to_owned);
    let (first, last) = (came(&checks[0]), came(&checks[checks.len() - 1]));
    ensure!(first.is_some_and(|first| first != "not reached"), "{report:#}");
    ensure!(last.is_some_and(|last| last == "not reached"), "{report:#}");
    Ok(())
}

fn rust_class() -> Outcome {
    let exercise = check::exercises::Exercise::of("03a", &workspace().join("exercises"))?;
    let ours = exercise.ok_or("no 03a")?.folder;
    let solution = as_given_out(&ours.join("solution/src/main.rs"))?;
    let folder = tempfile::tempdir()?;
    fs::write(folder.path().join("class.toml"), "task = \"03a\"\nlimit = 120\n")?;
    let neighbour = folder.path().join("solved/src/main.rs");
    for (student, source) in [
        ("nothing-done/src", as_given_out(&ours.join("starter/src/main.rs"))?),
        ("solved/src", solution.clone()),
        // The whole folder of the exercise, as it was given out.
        ("whole/03a-outside-the-folder/starter/src", solution),
        ("broken/src", "fn main() { this is no Rust }\n".to_owned()),
        // It comes first, and would keep all others waiting.
        ("a-constant/src", ENDLESS.to_owned()),
        ("includes/src", format!("include!({neighbour:?});\n")),
    ] {
        let target = folder.path().join(student);
        fs::create_dir_all(&target)?;
        fs::write(target.join("main.rs"), source)?;
    }
    fs::create_dir(folder.path().join("links"))?;
    symlink("../solved/src", folder.path().join("links/src"))?;
    let [out, places] = [tempfile::tempdir()?, tempfile::tempdir()?];
    let (printed, rows) = (String::new(), BTreeMap::new());
    let mut ran = Ran { folder, out, places, status: None, printed, rows };
    ran.run(&[])?;
    ensure!(ran.status == Some(1) && ran.rows.len() == 7, "{:?}", ran.rows);
    ran.is_right("solved")?;
    ran.is_right("whole")?;
    ran.has_note("broken", "does not compile")?;
    ran.has_note("a-constant", "does not compile: it took more than 24 seconds")?;
    ran.has_note("links", "there is no src/main.rs")?;
    if has_landlock(&ran) {
        ran.has_note("includes", "Permission denied")?;
    }
    // The student needs what the compiler said.
    for file in ["report.json", "report.xml", "index.html"] {
        let report = read(ran.out.path().join("students/broken").join(file))?;
        ensure!(report.contains("main.rs:1:"), "{report}");
    }
    // A starter that is handed in as it was gets nothing, and the note says why.
    ensure!(ran.cell("nothing-done", "points")? == "0", "{:?}", ran.rows);
    ran.has_note("nothing-done", "do not count")?;
    ensure!(ran.page()?.contains("the solution&#x27;s main.rs"), "{}", ran.page()?);
    // Nothing is written among what was handed in.
    for place in ["", "solved", "solved/report"] {
        let out: PathBuf = ran.folder.path().join(place);
        let output =
            check_command()?.arg("class").arg(ran.folder.path()).arg("--out").arg(out).output()?;
        ensure!(output.status.code() == Some(2), "{place}: {output:?}");
    }
    Ok(())
}

const ENDLESS: &str = "\
#![allow(long_running_const_eval)]
const fn endless() -> u64 {
    let mut number = 0;
    while number < u64::MAX {
        number += 1;
    }
    number
}
const NUMBER: u64 = endless();
fn main() {
    println!(\"{NUMBER}\");
}
";
