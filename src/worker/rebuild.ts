import { mkdirSync } from 'node:fs'
import { chmod, copyFile, mkdir, opendir } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import type { HashedFile, SigningKey } from '../attestation.ts'
import { zstdFrame } from '../compression.ts'
import { Complaint, sentenceOf } from '../errors.ts'
import { printable } from '../log.ts'
import { noEvidence, type Evidence, type RebuildReport } from '../wire/builds.ts'
import type { JobArtifact, QueuedJob } from '../wire/queue.ts'
import { wireTime } from '../wire/schema.ts'
import { compareArtifact, describeArtifact, outputFor, type Compared, type Original } from './artifact.ts'
import { runBackend, type BackendLimits, type BackendResult, type BackendSettings } from './backend.ts'
import { fetchCached, type Cache } from './cache.ts'
import type { Fingerprint } from './compare.ts'
import type { DiffoscopeSettings } from './diffoscope.ts'
import { download, downloadLimits, fileNameOf } from './download.ts'
import { Failure, reasonOf } from './failure.ts'
import { findingOf, type LogRule } from './logrules.ts'
import { judge, type Ending, type Judgement, type Verdict } from './verdict.ts'

/** What all jobs of a worker have in common. */
export type RebuildSettings = {
  /** By the name that jobs ask for. */
  backends: ReadonlyMap<string, BackendSettings>
  /** null: do not run it. */
  diffoscope: DiffoscopeSettings | null
  key: SigningKey
  originals: Cache | null
  /** Where backends keep what they need again. */
  cache: string
  timeoutSeconds: number
  maxLogBytes: number | null
  silent: boolean
  /** What the log of a failed build says. */
  logRules: readonly LogRule[]
  isolation: 'auto' | 'require' | 'off'
  /** Folders and files that builds must not see. */
  hidden?: readonly string[]
  /** Of each build; absent: `defaultLimits`. */
  limits?: BackendLimits
  /** No other job runs in this process at the same time. */
  alone?: boolean
  /** Folder where copies of the rebuilt files are left, by name; absent: they are removed with the job. */
  outputs?: string | undefined
}

export type RebuildJob = {
  job: Pick<QueuedJob, 'name' | 'version' | 'distribution' | 'release' | 'architecture' | 'backend' | 'url'>
  artifacts: readonly JobArtifact[]
}

/** A finished job: what a report says apart from which job it was. */
export type Result = Omit<RebuildReport, 'queue_id' | 'lease'>

type RebuildOptions = {
  /** Empty folder of this job, private; whoever made it removes it. */
  directory: string
  settings: RebuildSettings
  /** The log of the build while it grows. */
  onLog?: (chunk: Uint8Array) => void
  /** Called when the backend is started. */
  onStart?: () => void
  signal: AbortSignal
}

/**
 * Downloads, builds, compares, attests. Whatever goes wrong becomes a FAIL with its reason.
 * @throws the signal's reason once aborted, nothing else
 */
export async function rebuild(assignment: RebuildJob, options: RebuildOptions): Promise<Result> {
  const progress: Progress = { log: new Uint8Array(), evidence: noEvidence(assignment.job.backend) }
  try {
    return await attempt(assignment, options, progress)
  } catch (error) {
    options.signal.throwIfAborted()
    return failed(error, progress)
  }
}

/** What is known when something goes wrong later on. */
type Progress = { log: Uint8Array; evidence: Evidence }

async function attempt(
  { job, artifacts }: RebuildJob,
  options: RebuildOptions,
  progress: Progress,
): Promise<Result> {
  const { settings } = options
  const backend = settings.backends.get(job.backend)
  if (backend === undefined) throw new Failure('backend_error', `this worker has no backend ${job.backend}`)
  const { originals, input } = await fetchFiles(job.url, artifacts, options)
  const run = await build(job, backend, { input: input.path, originals }, options)
  progress.log = run.log
  progress.evidence = evidenceOf(run, backend)
  try {
    if (settings.outputs !== undefined) await keepOutputs(run.outdir, originals, settings.outputs)
    return await compareAll(
      { run, backend, originals, input: { file: fileNameOf(job.url), ...input.fingerprint } },
      options,
    )
  } finally {
    await run.cleared // meanwhile, because nobody waits for it
  }
}

/** Where a job builds, in the folder that is its own. */
export function buildFolder(directory: string): string {
  return join(directory, 'build')
}

async function build(
  job: RebuildJob['job'],
  backend: BackendSettings,
  { input, originals }: { input: string; originals: readonly Original[] },
  { directory, settings, onLog, onStart, signal }: RebuildOptions,
): Promise<BackendResult> {
  const { cache, timeoutSeconds, maxLogBytes, silent, isolation, hidden = [], limits } = settings
  const artifacts = originals.map(({ file }) => file)
  const described = { ...job, inputUrl: job.url, artifacts }
  const folder = madeFolder(buildFolder(directory))
  const bounds = { cache, timeoutSeconds, maxLogBytes, silent, isolation, hidden, signal }
  const listening = { onLog: listener(onLog, silent), onStart, ...(limits === undefined ? {} : { limits }) }
  return runBackend({ backend, input, directory: folder, job: described, ...bounds, ...listening })
}

/** Passes the log on, and to our own error output where the operator wants to see it. */
function listener(onLog: RebuildOptions['onLog'], silent: boolean): (chunk: Uint8Array) => void {
  const decoder = new TextDecoder()
  return (chunk) => {
    onLog?.(chunk)
    if (!silent) process.stderr.write(printable(decoder.decode(chunk, { stream: true }), true))
  }
}

type Built = {
  run: BackendResult
  backend: BackendSettings
  originals: readonly Original[]
  input: HashedFile
}

/** Compares every file, judges them together, and says so file by file. */
async function compareAll(
  { run, backend, originals, input }: Built,
  options: RebuildOptions,
): Promise<Result> {
  const compared: Compared[] = []
  const share = { signal: options.signal, alone: options.settings.alone ?? false }
  for (const original of originals) compared.push(await compareArtifact(original, run.outdir, share))
  const finding = findingOf(run.log, options.settings.logRules)
  const isSame = compared.every(({ found }) => found === 'same')
  const verdict = judge(compared, endingOf(run, backend, finding, !isSame && (await isEmpty(run.outdir))))
  if (!isSame) await run.tidy() // what tells the differences may need the room
  const described = []
  const context = { ...options, ...options.settings, input }
  for (const [index, one] of compared.entries())
    described.push(await describeArtifact(one, verdict.artifacts[index] ?? unjudged, context))
  const evidence = evidenceOf(run, backend)
  return {
    built_at: wireTime(new Date()),
    build_log: await zstdFrame(run.log),
    status: verdict.status,
    reason: verdict.reason,
    artifacts: described.map(({ report }) => report),
    evidence: {
      ...evidence,
      note: joined([evidence.note, ...described.map(({ note }) => note)]),
      temporary: isTemporary(verdict, finding),
    },
  }
}

/** Whether it is the finding that the verdict rests on, and it may pass. */
function isTemporary({ status, reason }: Verdict, finding: LogRule | null): boolean {
  return status === 'FAIL' && finding !== null && finding.temporary && finding.reason === reason
}

const unjudged: Judgement = { status: 'UNKWN', reason: 'backend_error' }

/** Files that are fetched at the same time: much of each is spent waiting for the mirror. */
const mostDownloads = 4

type Fetched = { path: string; fingerprint: Fingerprint }

/** The originals and the build input; where that is one of the originals (as for Arch Linux), that file. */
async function fetchFiles(
  inputUrl: string,
  artifacts: readonly JobArtifact[],
  options: RebuildOptions,
): Promise<{ originals: Original[]; input: Fetched }> {
  const originals: Original[] = []
  const own: Fetched[] = []
  const wanted: ((given: RebuildOptions) => Promise<unknown>)[] = artifacts.map(
    (artifact, index) => async (given) => (originals[index] = await fetchOriginal(artifact, index, given)),
  )
  if (!artifacts.some(({ url }) => url === inputUrl))
    wanted.unshift(async (given) => own.push(await fetchInput(inputUrl, given)))
  await someAtOnce(wanted, options)
  const input = own[0] ?? originals.find(({ artifact }) => artifact.url === inputUrl)
  if (input === undefined) throw new Failure('input_unavailable', 'there is no build input')
  return { originals, input }
}

/** Does it all, a few at a time. After the first that fails the others are ended, and its error is thrown. */
async function someAtOnce(
  wanted: readonly ((options: RebuildOptions) => Promise<unknown>)[],
  options: RebuildOptions,
): Promise<void> {
  const failed = new AbortController()
  const errors: unknown[] = []
  const given = { ...options, signal: AbortSignal.any([options.signal, failed.signal]) }
  const queue = wanted.values()
  const line = async (): Promise<void> => {
    for (const work of queue) await work(given)
  }
  const lines = Array.from({ length: mostDownloads }, () =>
    line().catch((error: unknown) => {
      errors.push(error)
      failed.abort()
    }),
  )
  await Promise.all(lines)
  if (errors.length > 0) throw errors[0]
}

/** Into a folder of its own, because two artifacts may have one name. */
async function fetchOriginal(
  artifact: JobArtifact,
  index: number,
  { directory, settings, signal }: RebuildOptions,
): Promise<Original> {
  const file = fileNameOf(artifact.url)
  const path = join(madeFolder(join(directory, 'originals', String(index))), file)
  const limits = { ...downloadLimits, signal, alone: settings.alone ?? false }
  const fingerprint = await fetchCached(artifact, path, settings.originals, limits)
  return { artifact, file, path, fingerprint }
}

async function fetchInput(url: string, { directory, signal }: RebuildOptions): Promise<Fetched> {
  const path = join(madeFolder(join(directory, 'input')), fileNameOf(url))
  const wanted = { url, sha256: null, size: null }
  return { path, fingerprint: await download(wanted, path, { ...downloadLimits, signal }) }
}

/** At once: for so little, other threads would take longer to be asked. */
function madeFolder(path: string): string {
  mkdirSync(dirname(path), { recursive: true, mode: 0o700 })
  mkdirSync(path, { mode: 0o700 })
  return path
}

/** Only plain files: the build may have left links. */
async function keepOutputs(outdir: string, originals: readonly Original[], folder: string): Promise<void> {
  await mkdir(folder, { recursive: true })
  for (const { file } of originals) {
    const built = outputFor(file, outdir)
    if (built?.stat.isFile() !== true) continue
    await copyFile(built.path, join(folder, file))
    await chmod(join(folder, file), 0o644) // it may have been made to run as its owner
  }
}

async function isEmpty(folder: string): Promise<boolean> {
  for await (const _ of await opendir(folder)) return false // there may be a million
  return true
}

function endingOf(
  run: BackendResult,
  backend: BackendSettings,
  finding: LogRule | null,
  empty: boolean,
): Ending {
  return {
    exitCode: run.exitCode,
    killedBy: run.killedBy,
    timedOut: run.timedOut,
    ours: run.told !== null || backend.path.startsWith('built-in:'),
    toldReason: run.told?.reason ?? null,
    presentToolchain: run.told?.presentToolchain ?? false,
    logReason: finding?.reason ?? null,
    empty,
  }
}

function evidenceOf(run: BackendResult, backend: BackendSettings): Evidence {
  return {
    backend: backend.name,
    backend_digest: run.digest,
    exit_code: run.exitCode,
    seconds: Math.round(run.seconds * 1000) / 1000,
    isolation: run.isolation,
    note: joined([run.told?.note ?? null, run.killedBy === null ? null : `ended by ${run.killedBy}`]),
    environment: run.told?.environment ?? [],
    missing: run.told?.missing ?? [],
    temporary: false,
  }
}

/** Sentences in one text; null when there are none. */
function joined(notes: readonly (string | null)[]): string | null {
  const said = [...new Set(notes.filter((note) => note !== null && note !== ''))]
  return said.length === 0 ? null : said.join('; ').slice(0, 4000)
}

/** The report of a job that came to no comparison: the log so far, and what went wrong as its last line. */
async function failed(error: unknown, { log, evidence }: Progress): Promise<Result> {
  const sentence = sentenceOf(error)
  const bug = error instanceof Complaint ? '' : stackOf(error)
  const gap = log.length === 0 ? '' : '\n\n'
  const lines = Buffer.from(`${gap}rebuilderd: ${sentence}\n${bug}`)
  return {
    built_at: wireTime(new Date()),
    build_log: await zstdFrame(Buffer.concat([log, lines])),
    status: 'FAIL',
    reason: reasonOf(error),
    artifacts: [],
    evidence: { ...evidence, note: joined([evidence.note, sentence]) },
  }
}

/** Only for errors of ours: those of the language itself. */
function stackOf(error: unknown): string {
  const isBug = error instanceof TypeError || error instanceof RangeError || error instanceof ReferenceError
  return isBug && error.stack !== undefined ? `${error.stack}\n` : ''
}
