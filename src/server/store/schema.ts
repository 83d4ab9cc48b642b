import { copyFileSync, existsSync } from 'node:fs'
import { Complaint } from '../../errors.ts'
import { sql, trusted, type Database } from './database.ts'

/**
 * The database, as steps from one version to the next. Append, never edit: databases out there have taken them.
 *
 * Conventions: moments are text as on the wire (text order is time order); no release and no component is the
 * empty text, so that unique keys hold; booleans are 0 and 1; a `file` is the last segment of an artifact's URL.
 */
export const migrations: readonly string[] = [
  `
  CREATE TABLE releases (
    id INTEGER PRIMARY KEY,
    distribution TEXT NOT NULL,
    name TEXT NOT NULL,
    UNIQUE (distribution, name)
  );

  -- One row per package report that is kept up to date: the packages of a release for one architecture.
  CREATE TABLE scopes (
    id INTEGER PRIMARY KEY,
    release_id INTEGER NOT NULL REFERENCES releases(id),
    architecture TEXT NOT NULL,
    imported_at TEXT NOT NULL,
    listed INTEGER NOT NULL,
    index_trust TEXT,
    UNIQUE (release_id, architecture)
  );

  CREATE TABLE source_packages (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    release_id INTEGER NOT NULL REFERENCES releases(id),
    name TEXT NOT NULL,
    version TEXT NOT NULL,
    maintainer TEXT,
    seen INTEGER NOT NULL,
    first_seen TEXT NOT NULL,
    last_seen TEXT NOT NULL,
    status TEXT,
    reason TEXT,
    build_id INTEGER,
    decided_at TEXT,
    UNIQUE (release_id, name, version)
  );
  CREATE INDEX source_packages_by_name ON source_packages (name, id);
  CREATE INDEX source_packages_by_status ON source_packages (release_id, seen, status, id);

  -- Friends: inputs of any release with the same URL, backend and architecture share attempts and jobs.
  CREATE TABLE friend_groups (
    id INTEGER PRIMARY KEY,
    url TEXT NOT NULL,
    backend TEXT NOT NULL,
    architecture TEXT NOT NULL,
    retries INTEGER NOT NULL,
    infrastructure_retries INTEGER NOT NULL,
    next_retry TEXT,
    last_reason TEXT,
    UNIQUE (url, backend, architecture)
  );

  CREATE TABLE build_inputs (
    id INTEGER PRIMARY KEY,
    source_package_id INTEGER NOT NULL REFERENCES source_packages(id),
    group_id INTEGER NOT NULL REFERENCES friend_groups(id),
    scope_id INTEGER NOT NULL REFERENCES scopes(id),
    seen INTEGER NOT NULL,
    needs_work INTEGER NOT NULL,
    status TEXT,
    reason TEXT,
    build_id INTEGER,
    decided_at TEXT,
    UNIQUE (source_package_id, group_id)
  );
  CREATE INDEX build_inputs_by_group ON build_inputs (group_id);
  CREATE INDEX build_inputs_by_scope ON build_inputs (scope_id, seen, id);
  CREATE INDEX build_inputs_by_need ON build_inputs (scope_id, id) WHERE needs_work = 1 AND seen = 1;

  CREATE TABLE binary_packages (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    build_input_id INTEGER NOT NULL REFERENCES build_inputs(id),
    source_package_id INTEGER NOT NULL REFERENCES source_packages(id),
    release_id INTEGER NOT NULL REFERENCES releases(id),
    scope_id INTEGER NOT NULL REFERENCES scopes(id),
    name TEXT NOT NULL,
    version TEXT NOT NULL,
    component TEXT NOT NULL,
    architecture TEXT NOT NULL,
    url TEXT NOT NULL,
    file TEXT NOT NULL,
    sha256 TEXT,
    size INTEGER,
    seen INTEGER NOT NULL,
    first_seen TEXT NOT NULL,
    last_seen TEXT NOT NULL,
    status TEXT,
    reason TEXT,
    build_id INTEGER,
    artifact_id INTEGER,
    diffoscope_id INTEGER,
    attestation_id INTEGER,
    decided_at TEXT,
    UNIQUE (build_input_id, name, version, component, architecture)
  );
  CREATE INDEX binary_packages_by_name ON binary_packages (name, id);
  CREATE INDEX binary_packages_by_source ON binary_packages (source_package_id, id);
  CREATE INDEX binary_packages_by_release ON binary_packages (release_id, id);
  CREATE INDEX binary_packages_by_release_name ON binary_packages (release_id, name, id);
  CREATE INDEX binary_packages_by_scope ON binary_packages (scope_id, component, id);
  CREATE INDEX binary_packages_by_status ON binary_packages (status, release_id, id);
  CREATE INDEX binary_packages_by_leaving ON binary_packages (last_seen, id);

  CREATE TABLE workers (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    key TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL,
    address TEXT NOT NULL,
    status TEXT,
    last_ping TEXT NOT NULL,
    online INTEGER NOT NULL,
    tags TEXT NOT NULL,
    draining INTEGER NOT NULL,
    registered_at TEXT NOT NULL
  );
  CREATE INDEX workers_by_ping ON workers (online, last_ping);

  -- What waits or runs: one row per friend group. state: ready, waiting (until next_retry), running.
  CREATE TABLE jobs (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    group_id INTEGER NOT NULL UNIQUE REFERENCES friend_groups(id),
    build_input_id INTEGER NOT NULL REFERENCES build_inputs(id),
    backend TEXT NOT NULL,
    architecture TEXT NOT NULL,
    state TEXT NOT NULL,
    priority INTEGER NOT NULL,
    queued_at TEXT NOT NULL,
    next_retry TEXT,
    worker_id INTEGER REFERENCES workers(id) ON DELETE SET NULL,
    lease_id INTEGER,
    started_at TEXT,
    lease_until TEXT,
    avoid_worker_id INTEGER,
    requires TEXT
  );
  -- requires: the tags a worker needs, sorted and joined; NULL until the rules have been asked.
  CREATE INDEX jobs_by_turn ON jobs (state, backend, architecture, requires, priority, queued_at, id);
  CREATE INDEX jobs_without_rule ON jobs (id) WHERE requires IS NULL;
  CREATE INDEX jobs_by_retry ON jobs (state, next_retry) WHERE state = 'waiting';
  CREATE INDEX jobs_by_lease ON jobs (lease_until) WHERE state = 'running';
  CREATE INDEX jobs_by_input ON jobs (build_input_id);
  CREATE INDEX jobs_by_worker ON jobs (worker_id) WHERE worker_id IS NOT NULL;

  -- Every handing-out of a job, so that a report is taken once, from its worker, whenever it comes.
  -- outcome: NULL while it lasts, then reported, lost, dropped or late.
  CREATE TABLE leases (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    token TEXT NOT NULL UNIQUE,
    job_id INTEGER NOT NULL,
    group_id INTEGER NOT NULL REFERENCES friend_groups(id),
    build_input_id INTEGER NOT NULL REFERENCES build_inputs(id),
    worker_id INTEGER REFERENCES workers(id) ON DELETE SET NULL,
    started_at TEXT NOT NULL,
    ended_at TEXT,
    outcome TEXT
  );
  CREATE INDEX leases_by_job ON leases (job_id, worker_id);
  CREATE INDEX leases_by_worker ON leases (worker_id) WHERE worker_id IS NOT NULL;

  CREATE TABLE blobs (
    id INTEGER PRIMARY KEY,
    sha256 TEXT NOT NULL UNIQUE,
    size INTEGER NOT NULL,
    kept_at TEXT NOT NULL
  );

  CREATE TABLE builds (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    build_input_id INTEGER NOT NULL REFERENCES build_inputs(id),
    lease_id INTEGER REFERENCES leases(id),
    is_latest INTEGER NOT NULL,
    started_at TEXT,
    built_at TEXT,
    decided_at TEXT NOT NULL,
    status TEXT NOT NULL,
    reason TEXT,
    retries INTEGER NOT NULL,
    worker TEXT,
    worker_key TEXT,
    log_id INTEGER REFERENCES blobs(id),
    evidence TEXT,
    environment_id INTEGER REFERENCES blobs(id)
  );
  CREATE INDEX builds_by_input ON builds (build_input_id, id);
  CREATE INDEX builds_by_lease ON builds (lease_id) WHERE lease_id IS NOT NULL;
  CREATE INDEX builds_by_log ON builds (log_id) WHERE log_id IS NOT NULL;
  CREATE INDEX builds_by_environment ON builds (environment_id) WHERE environment_id IS NOT NULL;
  CREATE INDEX builds_by_decision ON builds (decided_at);

  CREATE TABLE artifacts (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    build_id INTEGER NOT NULL REFERENCES builds(id),
    name TEXT NOT NULL,
    url TEXT,
    file TEXT NOT NULL,
    status TEXT NOT NULL,
    reason TEXT,
    sha256 TEXT,
    size INTEGER,
    rebuilt_sha256 TEXT,
    rebuilt_size INTEGER,
    first_difference INTEGER,
    diffoscope_id INTEGER REFERENCES blobs(id),
    attestation_id INTEGER REFERENCES blobs(id)
  );
  CREATE INDEX artifacts_by_build ON artifacts (build_id, id);
  CREATE INDEX artifacts_by_diffoscope ON artifacts (diffoscope_id) WHERE diffoscope_id IS NOT NULL;
  CREATE INDEX artifacts_by_attestation ON artifacts (attestation_id) WHERE attestation_id IS NOT NULL;

  -- What the operator switched at run time, such as the pause of the queue.
  CREATE TABLE switches (
    name TEXT PRIMARY KEY,
    value TEXT NOT NULL,
    changed_at TEXT NOT NULL
  );

  -- What happened, for those who watch; old ones go.
  CREATE TABLE events (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    at TEXT NOT NULL,
    kind TEXT NOT NULL,
    data TEXT NOT NULL
  );

  -- How often each part of the data changed, and when: ETag and Last-Modified come from here.
  CREATE TABLE generations (
    name TEXT PRIMARY KEY,
    value INTEGER NOT NULL,
    changed_at TEXT NOT NULL
  );

  -- Counters, kept by the triggers below in the transaction that changes what they count.
  CREATE TABLE binary_counts (
    scope_id INTEGER NOT NULL,
    component TEXT NOT NULL,
    architecture TEXT NOT NULL,
    seen INTEGER NOT NULL,
    status TEXT NOT NULL,
    reason TEXT NOT NULL,
    n INTEGER NOT NULL,
    PRIMARY KEY (scope_id, component, architecture, seen, status, reason)
  ) WITHOUT ROWID;
  CREATE TRIGGER binary_added AFTER INSERT ON binary_packages BEGIN
    INSERT INTO binary_counts VALUES (NEW.scope_id, NEW.component, NEW.architecture, NEW.seen, coalesce(NEW.status, ''), coalesce(NEW.reason, ''), 1)
      ON CONFLICT DO UPDATE SET n = n + 1;
  END;
  CREATE TRIGGER binary_changed AFTER UPDATE OF scope_id, component, architecture, seen, status, reason ON binary_packages BEGIN
    UPDATE binary_counts SET n = n - 1
     WHERE scope_id = OLD.scope_id AND component = OLD.component AND architecture = OLD.architecture AND seen = OLD.seen
       AND status = coalesce(OLD.status, '') AND reason = coalesce(OLD.reason, '');
    INSERT INTO binary_counts VALUES (NEW.scope_id, NEW.component, NEW.architecture, NEW.seen, coalesce(NEW.status, ''), coalesce(NEW.reason, ''), 1)
      ON CONFLICT DO UPDATE SET n = n + 1;
  END;
  CREATE TRIGGER binary_gone AFTER DELETE ON binary_packages BEGIN
    UPDATE binary_counts SET n = n - 1
     WHERE scope_id = OLD.scope_id AND component = OLD.component AND architecture = OLD.architecture AND seen = OLD.seen
       AND status = coalesce(OLD.status, '') AND reason = coalesce(OLD.reason, '');
  END;

  CREATE TABLE input_counts (
    scope_id INTEGER NOT NULL,
    seen INTEGER NOT NULL,
    status TEXT NOT NULL,
    reason TEXT NOT NULL,
    n INTEGER NOT NULL,
    PRIMARY KEY (scope_id, seen, status, reason)
  ) WITHOUT ROWID;
  CREATE TRIGGER input_added AFTER INSERT ON build_inputs BEGIN
    INSERT INTO input_counts VALUES (NEW.scope_id, NEW.seen, coalesce(NEW.status, ''), coalesce(NEW.reason, ''), 1)
      ON CONFLICT DO UPDATE SET n = n + 1;
  END;
  CREATE TRIGGER input_changed AFTER UPDATE OF scope_id, seen, status, reason ON build_inputs BEGIN
    UPDATE input_counts SET n = n - 1
     WHERE scope_id = OLD.scope_id AND seen = OLD.seen AND status = coalesce(OLD.status, '') AND reason = coalesce(OLD.reason, '');
    INSERT INTO input_counts VALUES (NEW.scope_id, NEW.seen, coalesce(NEW.status, ''), coalesce(NEW.reason, ''), 1)
      ON CONFLICT DO UPDATE SET n = n + 1;
  END;

  CREATE TABLE job_counts (
    scope_id INTEGER NOT NULL,
    state TEXT NOT NULL,
    n INTEGER NOT NULL,
    PRIMARY KEY (scope_id, state)
  ) WITHOUT ROWID;
  CREATE TRIGGER job_added AFTER INSERT ON jobs BEGIN
    INSERT INTO job_counts SELECT i.scope_id, NEW.state, 1 FROM build_inputs i WHERE i.id = NEW.build_input_id
      ON CONFLICT DO UPDATE SET n = n + 1;
  END;
  CREATE TRIGGER job_changed AFTER UPDATE OF state, build_input_id ON jobs WHEN OLD.state <> NEW.state OR OLD.build_input_id <> NEW.build_input_id BEGIN
    UPDATE job_counts SET n = n - 1
     WHERE scope_id = (SELECT scope_id FROM build_inputs WHERE id = OLD.build_input_id) AND state = OLD.state;
    INSERT INTO job_counts SELECT i.scope_id, NEW.state, 1 FROM build_inputs i WHERE i.id = NEW.build_input_id
      ON CONFLICT DO UPDATE SET n = n + 1;
  END;
  CREATE TRIGGER job_gone AFTER DELETE ON jobs BEGIN
    UPDATE job_counts SET n = n - 1
     WHERE scope_id = (SELECT scope_id FROM build_inputs WHERE id = OLD.build_input_id) AND state = OLD.state;
  END;

  CREATE TABLE build_counts (
    status TEXT NOT NULL,
    reason TEXT NOT NULL,
    n INTEGER NOT NULL,
    PRIMARY KEY (status, reason)
  ) WITHOUT ROWID;
  CREATE TRIGGER build_added AFTER INSERT ON builds BEGIN
    INSERT INTO build_counts VALUES (NEW.status, coalesce(NEW.reason, ''), 1) ON CONFLICT DO UPDATE SET n = n + 1;
  END;
  CREATE TRIGGER build_gone AFTER DELETE ON builds BEGIN
    UPDATE build_counts SET n = n - 1 WHERE status = OLD.status AND reason = coalesce(OLD.reason, '');
  END;

  CREATE TABLE source_counts (
    release_id INTEGER NOT NULL,
    seen INTEGER NOT NULL,
    status TEXT NOT NULL,
    reason TEXT NOT NULL,
    n INTEGER NOT NULL,
    PRIMARY KEY (release_id, seen, status, reason)
  ) WITHOUT ROWID;
  CREATE TRIGGER source_added AFTER INSERT ON source_packages BEGIN
    INSERT INTO source_counts VALUES (NEW.release_id, NEW.seen, coalesce(NEW.status, ''), coalesce(NEW.reason, ''), 1)
      ON CONFLICT DO UPDATE SET n = n + 1;
  END;
  CREATE TRIGGER source_changed AFTER UPDATE OF release_id, seen, status, reason ON source_packages BEGIN
    UPDATE source_counts SET n = n - 1
     WHERE release_id = OLD.release_id AND seen = OLD.seen AND status = coalesce(OLD.status, '') AND reason = coalesce(OLD.reason, '');
    INSERT INTO source_counts VALUES (NEW.release_id, NEW.seen, coalesce(NEW.status, ''), coalesce(NEW.reason, ''), 1)
      ON CONFLICT DO UPDATE SET n = n + 1;
  END;

  -- Indexes for the lists of pages: every filter has one, in the order of names.
  CREATE INDEX source_packages_by_listing ON source_packages (release_id, seen, name);
  CREATE INDEX source_packages_by_verdict ON source_packages (release_id, seen, status, name);
  CREATE INDEX source_packages_by_reason ON source_packages (release_id, seen, reason, name) WHERE reason IS NOT NULL;
  CREATE INDEX source_packages_by_decision ON source_packages (release_id, seen, decided_at);
  CREATE INDEX source_packages_by_maintainer ON source_packages (release_id, maintainer);
  CREATE INDEX build_inputs_by_verdict ON build_inputs (scope_id, seen, status, reason);

  -- Listed inputs by verdict and reason, as they were at the end of each day.
  CREATE TABLE snapshots (
    day TEXT NOT NULL,
    scope_id INTEGER NOT NULL,
    status TEXT NOT NULL,
    reason TEXT NOT NULL,
    n INTEGER NOT NULL,
    PRIMARY KEY (day, scope_id, status, reason)
  ) WITHOUT ROWID;

  -- Verdicts that differ from what the same package, or its version before, had; old ones go.
  -- turn: 1 worse, 2 better, 3 first or otherwise different. before_version: NULL where it is the same version.
  CREATE TABLE changes (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    at TEXT NOT NULL,
    build_id INTEGER NOT NULL,
    release_id INTEGER NOT NULL,
    name TEXT NOT NULL,
    version TEXT NOT NULL,
    architecture TEXT NOT NULL,
    maintainer TEXT,
    status TEXT NOT NULL,
    reason TEXT,
    before TEXT,
    before_version TEXT,
    turn INTEGER NOT NULL
  );
  CREATE INDEX changes_by_turn ON changes (turn, id);
  CREATE INDEX changes_by_release ON changes (release_id, turn, id);
  CREATE INDEX changes_by_name ON changes (name, id);
  CREATE INDEX changes_by_maintainer ON changes (maintainer, id) WHERE maintainer IS NOT NULL;
  CREATE TRIGGER verdict_told AFTER INSERT ON events WHEN NEW.kind = 'verdict' BEGIN
    INSERT INTO changes (at, build_id, release_id, name, version, architecture, maintainer, status, reason, before, before_version, turn)
    SELECT NEW.at, w.id, w.release_id, w.name, w.version, w.architecture, w.maintainer, w.status, w.reason, w.before,
           CASE WHEN w.own IS NULL THEN w.before_version END,
           CASE WHEN w.before = 'GOOD' THEN 1 WHEN w.status = 'GOOD' THEN 2 ELSE 3 END
      FROM (
        SELECT h.id, s.release_id, s.name, s.version, c.architecture, s.maintainer, h.status, h.reason,
               json_extract(NEW.data, '$.before') AS own, p.version AS before_version,
               coalesce(json_extract(NEW.data, '$.before'), pi.status) AS before
          FROM builds h JOIN build_inputs i ON i.id = h.build_input_id JOIN source_packages s ON s.id = i.source_package_id
          JOIN scopes c ON c.id = i.scope_id
          LEFT JOIN source_packages p ON p.id = (
            SELECT max(o.id) FROM source_packages o WHERE o.release_id = s.release_id AND o.name = s.name AND o.id < s.id)
          LEFT JOIN build_inputs pi ON pi.source_package_id = p.id AND pi.scope_id = i.scope_id
         WHERE h.id = json_extract(NEW.data, '$.build_id') LIMIT 1) w
     WHERE coalesce(w.before, '') <> w.status AND (w.before IS NOT NULL OR w.status <> 'GOOD');
  END;
  `,
  `
  -- The last report of a scope: its digest, NULL while an import runs, and what it changed.
  ALTER TABLE scopes ADD COLUMN digest TEXT;
  ALTER TABLE scopes ADD COLUMN added INTEGER NOT NULL DEFAULT 0;
  ALTER TABLE scopes ADD COLUMN gone INTEGER NOT NULL DEFAULT 0;
  ALTER TABLE scopes ADD COLUMN queued INTEGER NOT NULL DEFAULT 0;
  -- The distribution's own signature of a file, as base64.
  ALTER TABLE binary_packages ADD COLUMN signature TEXT;
  `,
  `
  -- Keys whose holders proved to hold them: they have to from then on, even when their worker was forgotten.
  CREATE TABLE proven_keys (
    key TEXT PRIMARY KEY,
    since TEXT NOT NULL
  );
  `,
  `
  -- What the worker's machine has left, as JSON.
  ALTER TABLE workers ADD COLUMN free TEXT;
  `,
  `
  -- Changes of verdicts are written with the verdict (events.ts): inside a trigger the planner walked whole tables.
  DROP TRIGGER verdict_told;
  `,
  `
  -- diffoscope's page beside its text.
  ALTER TABLE artifacts ADD COLUMN html_id INTEGER REFERENCES blobs(id);
  CREATE INDEX artifacts_by_html ON artifacts (html_id) WHERE html_id IS NOT NULL;
  `,
  `
  -- When a client last had the same list as the last report, and when an import last changed something.
  ALTER TABLE scopes ADD COLUMN checked_at TEXT;
  ALTER TABLE scopes ADD COLUMN changed_at TEXT;
  UPDATE scopes SET checked_at = imported_at;
  `,
  `
  -- Lists in these orders, and what was decided since a moment or for a reason.
  CREATE INDEX builds_by_start ON builds (started_at);
  CREATE INDEX builds_by_built ON builds (built_at);
  CREATE INDEX builds_by_status ON builds (status);
  CREATE INDEX builds_by_reason ON builds (reason);
  CREATE INDEX builds_by_retries ON builds (retries);
  CREATE INDEX builds_by_worker ON builds (worker);
  CREATE INDEX binary_packages_by_version ON binary_packages (version);
  CREATE INDEX source_packages_by_version ON source_packages (version);
  CREATE INDEX binary_packages_by_decision ON binary_packages (decided_at) WHERE decided_at IS NOT NULL;
  CREATE INDEX binary_packages_by_reason ON binary_packages (reason) WHERE reason IS NOT NULL;
  CREATE INDEX source_packages_by_decided ON source_packages (decided_at) WHERE decided_at IS NOT NULL;
  CREATE INDEX source_packages_by_cause ON source_packages (reason) WHERE reason IS NOT NULL;
  `,
  `
  -- Where there are no rules, jobs require nothing from the start; nobody has to tell them so when they are handed out.
  UPDATE jobs SET requires = ''
   WHERE requires IS NULL AND NOT EXISTS (SELECT 1 FROM switches WHERE name = 'schedule.rules' AND value <> '[]');
  `,
  `
  -- Names of maintainers, each once, to find those that a text is part of.
  CREATE TABLE maintainers (name TEXT PRIMARY KEY) WITHOUT ROWID;
  INSERT INTO maintainers SELECT DISTINCT maintainer FROM source_packages WHERE maintainer > '';
  CREATE TRIGGER maintainer_added AFTER INSERT ON source_packages WHEN NEW.maintainer > '' BEGIN
    INSERT INTO maintainers VALUES (NEW.maintainer) ON CONFLICT DO NOTHING;
  END;
  CREATE TRIGGER maintainer_changed AFTER UPDATE OF maintainer ON source_packages WHEN NEW.maintainer > '' AND NEW.maintainer IS NOT OLD.maintainer BEGIN
    INSERT INTO maintainers VALUES (NEW.maintainer) ON CONFLICT DO NOTHING;
  END;
  DROP INDEX source_packages_by_maintainer;
  CREATE INDEX source_packages_by_maintainer ON source_packages (maintainer, release_id, seen);
  -- The order of decisions has those without one, too.
  DROP INDEX binary_packages_by_decision;
  CREATE INDEX binary_packages_by_decision ON binary_packages (decided_at);
  DROP INDEX source_packages_by_decided;
  CREATE INDEX source_packages_by_decided ON source_packages (decided_at);
  -- Builds are counted by scope, too: lists of a release or an architecture tell how many there are.
  DROP TRIGGER build_added;
  DROP TRIGGER build_gone;
  DROP TABLE build_counts;
  CREATE TABLE build_counts (
    scope_id INTEGER NOT NULL,
    status TEXT NOT NULL,
    reason TEXT NOT NULL,
    n INTEGER NOT NULL,
    PRIMARY KEY (scope_id, status, reason)
  ) WITHOUT ROWID;
  INSERT INTO build_counts SELECT i.scope_id, h.status, coalesce(h.reason, ''), count(*)
    FROM builds h JOIN build_inputs i ON i.id = h.build_input_id GROUP BY 1, 2, 3;
  CREATE TRIGGER build_added AFTER INSERT ON builds BEGIN
    INSERT INTO build_counts SELECT i.scope_id, NEW.status, coalesce(NEW.reason, ''), 1 FROM build_inputs i WHERE i.id = NEW.build_input_id
      ON CONFLICT DO UPDATE SET n = n + 1;
  END;
  CREATE TRIGGER build_gone AFTER DELETE ON builds BEGIN
    UPDATE build_counts SET n = n - 1
     WHERE scope_id = (SELECT scope_id FROM build_inputs WHERE id = OLD.build_input_id) AND status = OLD.status AND reason = coalesce(OLD.reason, '');
  END;
  `,
  `
  -- The order of the whole queue, for API v0.
  CREATE INDEX jobs_in_order ON jobs (priority, queued_at, id);
  `,
  `
  -- Digests of the ranges of a scope's last report, as JSON. They hold while the scope has the digest of that report.
  CREATE TABLE report_ranges (
    scope_id INTEGER PRIMARY KEY REFERENCES scopes(id),
    digest TEXT NOT NULL,
    ranges TEXT NOT NULL
  );
  `,
]

/**
 * Brings a database to the newest version, one transaction per step (a new one in a single one). Before the first step of a database that
 * has data a copy is kept beside it.
 * @param file the database's file, for the copy
 * @param steps all migrations; tests give fewer to make databases of earlier versions
 * @param tell told of each step of a database that has data: with millions of builds one takes seconds
 * @throws Complaint where the database is newer than this program
 */
export async function migrate(
  db: Database,
  file: string,
  steps: readonly string[] = migrations,
  tell: (text: string) => void = () => undefined,
): Promise<void> {
  const version = await versionOf(db)
  if (version > steps.length) {
    throw new Complaint(
      `the database ${file} was written by a newer rebuilderd (version ${version}, this one knows ${steps.length})`,
      {
        hint: 'start the newer program again, or put the copy from before the update in its place',
      },
    )
  }
  const isOld = version > 0 && version < steps.length
  if (isOld) {
    tell(
      `the database is of version ${version}, ${steps.length} is wanted: first a copy, ${file}.version-${version}`,
    )
    keepCopy(file, version)
  }
  if (version === 0) await taken(db, steps.flatMap(statementsOf), steps.length)
  for (const [index, step] of steps.entries()) {
    if (!isOld || index < version) continue
    tell(`bringing the database to version ${index + 1} of ${steps.length}; nobody is answered until then`)
    await taken(db, statementsOf(step), index + 1)
  }
  if (isOld) tell('the database is up to date')
}

/** Runs the statements of one step, or of all for a database that is new. */
async function taken(db: Database, statements: readonly string[], version: number): Promise<void> {
  await db.transaction((tx) =>
    tx.batch([...statements, `PRAGMA user_version = ${version}`].map((text) => trusted(text))),
  )
}

async function versionOf(db: Database): Promise<number> {
  const [row] = await db.all<{ user_version: number }>(sql`PRAGMA user_version`)
  return row?.user_version ?? 0
}

/** The write-ahead log goes along: together they are the database as it was. */
function keepCopy(file: string, version: number): void {
  for (const suffix of ['', '-wal']) {
    if (existsSync(file + suffix)) copyFileSync(file + suffix, `${file}.version-${version}${suffix}`)
  }
}

/** Statements of a step: they end with a semicolon at a line's end, triggers with END; */
function statementsOf(step: string): string[] {
  const statements: string[] = []
  let current = ''
  for (const line of step.split('\n')) {
    if (/^\s*(--.*)?$/.test(line)) continue
    current += `${line}\n`
    const isTrigger = /^\s*CREATE TRIGGER/.test(current)
    if (isTrigger ? /^\s*END;$/.test(line) : line.endsWith(';')) {
      statements.push(current)
      current = ''
    }
  }
  return statements
}
