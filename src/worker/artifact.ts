import { lstatSync, type Stats } from 'node:fs'
import { join } from 'node:path'
import { makeLink, serialiseEnvelope, signLink, type HashedFile, type SigningKey } from '../attestation.ts'
import { zstdFrame } from '../compression.ts'
import { sentenceOf } from '../errors.ts'
import type { ReportArtifact } from '../wire/builds.ts'
import type { JobArtifact } from '../wire/queue.ts'
import { compareFiles, NotPlain, type Fingerprint } from './compare.ts'
import { diffoscope, type DiffoscopeSettings } from './diffoscope.ts'
import { downloadLimits } from './download.ts'
import { Failure } from './failure.ts'
import type { Share } from './hash-elsewhere.ts'
import { summaryOf } from './summary.ts'
import type { Comparison, Judgement } from './verdict.ts'

/** The distribution's own file. */
export type Original = {
  readonly artifact: JobArtifact
  /** Its name, as it stands in the address. */
  readonly file: string
  readonly path: string
  /** Of the bytes that were downloaded. */
  readonly fingerprint: Fingerprint
}

/** An original beside what the build made of it. */
export type Compared = Comparison & { readonly of: Original; readonly path: string | null }

/**
 * Looks for what the build made and compares it.
 * @throws Failure where the original is no longer the file that was downloaded
 */
export async function compareArtifact(original: Original, outdir: string, share: Share): Promise<Compared> {
  const output = outputFor(original.file, outdir)
  if (output === null) return { found: 'missing', of: original, path: null }
  const { path, stat } = output
  if (!stat.isFile()) return { found: 'refused', of: original, path }
  if (stat.size > downloadLimits.limit)
    throw new Failure('too_large', `the build made ${original.file} ${stat.size} bytes large`)
  const compared = await compareFiles(original.path, path, share).catch((error: unknown) => {
    if (error instanceof NotPlain) return null // became a link: a hard one
    throw error
  })
  if (compared === null) return { found: 'refused', of: original, path }
  if (compared.original.sha256 !== original.fingerprint.sha256)
    throw new Failure('backend_error', `${original.file} changed on our disk while the build ran`)
  const { firstDifference, ...prints } = compared
  const shared = { ...prints, of: original, path }
  return firstDifference === null
    ? { found: 'same', ...shared }
    : { found: 'different', firstDifference, ...shared }
}

/** A build may name a file as the address does, or as it is called once percent escapes are undone. */
export function outputFor(file: string, outdir: string): { path: string; stat: Stats } | null {
  for (const name of new Set([file, unescaped(file)])) {
    const path = join(outdir, name)
    const stat = statOf(path)
    if (stat !== null) return { path, stat }
  }
  return null
}

function statOf(path: string): Stats | null {
  try {
    return lstatSync(path)
  } catch {
    return null
  }
}

function unescaped(file: string): string {
  try {
    const name = decodeURIComponent(file)
    return /[/\0]/.test(name) || name === '.' || name === '..' ? file : name
  } catch {
    return file // not UTF-8
  }
}

type DescribeContext = {
  readonly input: HashedFile
  readonly key: SigningKey
  readonly diffoscope: DiffoscopeSettings | null
  readonly isolation: 'auto' | 'require' | 'off'
  readonly directory: string
  readonly signal: AbortSignal
}

/** What the report says about one artifact, and a note where something could not be said. */
export async function describeArtifact(
  compared: Compared,
  judgement: Judgement,
  context: DescribeContext,
): Promise<{ report: ReportArtifact; note: string | null }> {
  const { artifact, file } = compared.of
  const prints = 'rebuilt' in compared ? compared : null
  const diff = await differencesOf(compared, context)
  const report: ReportArtifact = {
    name: artifact.name,
    url: artifact.url,
    status: judgement.status,
    reason: judgement.reason,
    sha256: compared.of.fingerprint.sha256,
    size: compared.of.fingerprint.size,
    rebuilt_sha256: prints?.rebuilt.sha256 ?? null,
    rebuilt_size: prints?.rebuilt.size ?? null,
    first_difference: compared.found === 'different' ? compared.firstDifference : null,
    diffoscope: diff.text === null ? null : await zstdFrame(diff.text),
    ...(diff.html === null ? {} : { diffoscope_html: await zstdFrame(diff.html) }),
    attestation: compared.found === 'same' ? await attest(compared.of, context) : null,
  }
  const refusal = compared.found === 'refused' ? `${file} is a link or no plain file` : null
  return { report, note: refusal ?? diff.note }
}

/** Only for a file that is equal to its original: their hashes are the same. */
async function attest({ file, fingerprint }: Original, context: DescribeContext): Promise<Uint8Array> {
  const link = makeLink({ artifact: { file, ...fingerprint }, input: context.input })
  return zstdFrame(serialiseEnvelope(signLink(link, context.key)))
}

/** Our own summary always; what diffoscope says where it is switched on and there. */
async function differencesOf(
  compared: Compared,
  { diffoscope: settings, isolation, directory, signal }: DescribeContext,
): Promise<{ text: Uint8Array | null; html: Uint8Array | null; note: string | null }> {
  const none = { text: null, html: null }
  if (compared.found !== 'different' || compared.path === null) return { ...none, note: null }
  const { of: original, path } = compared
  const note = await summaryOf(original.path, path, original.file, signal)
  if (settings === null) return { ...none, note }
  try {
    const said = await diffoscope(original.path, path, settings, { directory, isolation, signal })
    return { ...said, note: said.note === null ? note : `${note}; ${said.note}` }
  } catch (error) {
    signal.throwIfAborted()
    return { ...none, note: `${note}; no diff: ${sentenceOf(error)}` }
  }
}
