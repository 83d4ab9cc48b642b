import { join, resolve } from 'node:path'
import { plainBytes } from '../compression.ts'
import { Complaint, didYouMean } from '../errors.ts'
import { printable } from '../log.ts'
import type { ReportArtifact } from '../wire/builds.ts'
import { wordsOf } from '../wire/reasons.ts'
import { fileNameOf } from '../worker/download.ts'
import { rebuild, type RebuildJob, type Result } from '../worker/rebuild.ts'
import { clearBuilds, makeBuildFolder } from '../worker/scratch.ts'
import { command, flag, text, type Context, type Given } from './command.ts'
import { paintFor, paintedStatus, shownJson } from './output.ts'
import { architecturesOf, diffoscopeOf, setUp, setupOptions } from './worker-setup.ts'

const options = {
  ...setupOptions,
  inputUrl: text('What the backend gets, such as a .buildinfo; else the first artifact', {
    placeholder: 'URL',
  }),
  release: text('Release that the package belongs to', { placeholder: 'RELEASE' }),
  architecture: text('Architecture to build for; else what the file name says, or that of this machine', {
    placeholder: 'ARCH',
  }),
  scriptLocation: text('Script to run in place of the configured backend', { placeholder: 'PATH' }),
  diffoscope: flag('Explain what differs with diffoscope', { aliases: ['gen-diffoscope'] }),
  output: text('Folder to leave the rebuilt files in', { placeholder: 'DIR' }),
  quiet: flag('Do not show the output of the build'),
  json: flag('Print one JSON document'),
}
type Options = Given<typeof options>

const exitCodes = { GOOD: 0, BAD: 1, FAIL: 2, UNKWN: 2 } as const

/** One rebuild on this machine, without a server. */
export const build = command(
  'worker build <distro> <...artifact-urls>',
  'Rebuild one package here and print the verdict, without a server',
  options,
  async ([distro, ...urls], given, context) => {
    const job = jobOf(distro, urls, given)
    const result = await buildOnce(job, given, context)
    if (given.json) context.out(shownJson(await documentOf(result)))
    else await tell(result, context)
    return exitCodes[result.status]
  },
  {
    examples: [
      'rebuilderd worker build debian https://mirror.example/hello_2.10-3_amd64.deb --input-url https://buildinfos.example/hello_2.10-3_amd64.buildinfo --release bookworm',
    ],
    exits: {
      0: 'GOOD: every byte is the same',
      1: 'BAD: built, and the bytes differ or a file is missing',
      2: 'FAIL: no comparison was possible; or it was asked for in a wrong way',
    },
    failure: 2, // 1 is a verdict
    pace: 'sparing',
  },
)

function jobOf(distro: string, urls: readonly string[], given: Options): RebuildJob {
  for (const address of [...urls, ...(given.inputUrl === undefined ? [] : [given.inputUrl])])
    refusePath(address)
  const artifacts = urls.map((url) => {
    const [name = '', version = '', architecture = ''] = fileNameOf(url)
      .replace(/\.[a-z]+$/, '')
      .split('_')
    return { name, version, architecture, url, sha256: null, size: null }
  })
  const [first] = artifacts
  if (first === undefined)
    throw new Complaint('worker build needs the address of at least one artifact', { exitCode: 2 })
  return {
    job: {
      name: first.name,
      version: first.version,
      distribution: distro,
      release: given.release ?? null,
      architecture: given.architecture ?? first.architecture,
      backend: distro,
      url: given.inputUrl ?? first.url,
    },
    artifacts,
  }
}

/** Whoever wants to rebuild files of this machine learns how: the scripts fetch what lies beside them, too. */
function refusePath(address: string): void {
  if (/^https?:\/\//i.test(address)) return
  throw new Complaint(`${address} is not an http or https address`, {
    hint: 'for files of this machine: python3 -m http.server --directory FOLDER, then http://127.0.0.1:8000/FILE',
    exitCode: 2,
  })
}

async function buildOnce(assignment: RebuildJob, given: Options, context: Context): Promise<Result> {
  const { settings, folder, rebuild: common } = await setUp(given, context)
  const backends = new Map(common.backends)
  const { distribution, architecture } = assignment.job
  const script = given.scriptLocation
  if (script !== undefined)
    backends.set(distribution, { name: distribution, path: resolve(script), options: {} })
  if (!backends.has(distribution)) throw noBackend(distribution, [...backends.keys()])
  const { native: machine, supported } = architecturesOf(settings)
  const native = supported.find((name) => name !== machine && name !== 'all') ?? machine // as distributions say it
  const job = { ...assignment.job, architecture: architecture === '' ? native : architecture }
  const builds = join(folder, 'builds')
  await clearBuilds(builds) // of those that were killed
  await using place = await makeBuildFolder(builds)
  return await rebuild(
    { ...assignment, job },
    {
      directory: place.directory,
      signal: context.signal,
      settings: {
        ...common,
        alone: true,
        backends,
        diffoscope: given.diffoscope ? diffoscopeOf(settings) : null,
        silent: given.quiet || common.silent,
        outputs: given.output === undefined ? undefined : resolve(given.output),
      },
    },
  )
}

function noBackend(distribution: string, known: readonly string[]): Complaint {
  return new Complaint(`there is no backend for ${distribution}`, {
    hint:
      didYouMean(distribution, known) ??
      '`rebuilderd worker backends` lists them; --script-location names a script of your own',
    exitCode: 2,
  })
}

/** Verdict first, then file by file, then the diffs. */
async function tell(result: Result, { out, write, colours }: Context): Promise<void> {
  const paint = paintFor(colours)
  const why = result.reason === null ? '' : ` ${result.reason}: ${wordsOf(result.reason)}`
  out(`${paintedStatus(result.status, paint)}${why}`)
  for (const artifact of result.artifacts) {
    out(`${paintedStatus(artifact.status, paint)} ${printable(artifact.name)}${whereOf(artifact)}`)
    out(`  original ${artifact.sha256 ?? '-'} ${artifact.size ?? '-'} bytes`)
    out(`  rebuilt  ${artifact.rebuilt_sha256 ?? '-'} ${artifact.rebuilt_size ?? '-'} bytes`)
  }
  const note = result.evidence?.note ?? null
  if (note !== null) out(printable(note))
  for (const missing of result.evidence?.missing ?? []) out(`  missing ${printable(missing)}`)
  for (const { diffoscope } of result.artifacts) {
    if (diffoscope !== null) write(printable(await textOf(diffoscope), true))
  }
}

function whereOf({ first_difference: at }: ReportArtifact): string {
  return at === null ? '' : ` (differs from byte ${at} on)`
}

const mostText = 256 * 1024 * 1024

async function textOf(blob: Uint8Array): Promise<string> {
  return new TextDecoder().decode(await plainBytes(blob, mostText))
}

/** The report as people's programs want it: texts in place of compressed bytes. */
async function documentOf(result: Result): Promise<unknown> {
  const artifacts = []
  for (const artifact of result.artifacts) {
    const { diffoscope, diffoscope_html: html, attestation } = artifact
    artifacts.push({
      ...artifact,
      diffoscope: diffoscope === null ? null : await textOf(diffoscope),
      ...(html === undefined ? {} : { diffoscope_html: await textOf(html) }),
      attestation: attestation === null ? null : (JSON.parse(await textOf(attestation)) as unknown),
    })
  }
  return { ...result, build_log: await textOf(result.build_log), artifacts }
}
