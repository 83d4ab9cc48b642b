import { join } from 'node:path'
import { Complaint, during } from '../../errors.ts'
import { silentLog, type Log } from '../../log.ts'
import { checkedProfile, reportsOf, type Profile, type Progress } from '../../sync/index.ts'
import type { Context } from '../command.ts'
import { paintFor } from '../output.ts'
import { shownBytes } from '../progress.ts'
import { makeArchive, type Archive } from './archive.ts'
import { serveFolder } from './files.ts'
import { machineMirror, type MachineMirror } from './mirror.ts'
import { explanation, verdictLine } from './show.ts'
import type { Stage } from './stage.ts'
import type { Teller } from './tell.ts'
import { submitAll, untilJudged, type Judged } from './watch.ts'

export type Scene = {
  /** Folder of this demonstration alone. */
  folder: string
  cache: string
  stage: Stage
  teller: Teller
  log: Log
  signal: AbortSignal
  context: Context
}

/** One half of the demonstration: an archive, and what became of its packages. */
export type Show = (scene: Scene) => Promise<Judged[]>

/** Three packages made here and now, and what can happen to packages. */
export const showLocal: Show = async (scene) => {
  const { folder, teller, signal } = scene
  teller.say('\nMaking an archive of three packages:')
  const archive = await makeArchive(join(folder, 'archive'), {
    signal,
    onStep: (what) => teller.say(`  ${what}`),
  })
  const mirror = await serveFolder(archive.folder)
  try {
    teller.say('Rebuilding them:')
    // This archive has no signature and is gone soon: nothing to warn of, nothing to keep.
    const reading = {
      profile: localProfile(archive, mirror.address),
      log: silentLog,
      cache: null,
      required: [],
    }
    return await judge(archive.release, reading, scene)
  } finally {
    await mirror.close()
  }
}

/**
 * Packages that Debian made, from the mirror that this machine uses itself.
 * @param required whether all of them must be there: not every release has them
 */
export function showOfficial(names: readonly string[], { required }: { required: boolean }): Show {
  return async (scene) => {
    const mirror = await machineMirror(scene.signal)
    scene.teller.say(
      `\nRebuilding packages of Debian ${mirror.release}; the first time a build root is made:`,
    )
    const reading = {
      profile: officialProfile(mirror, names),
      log: scene.log,
      cache: join(scene.cache, 'sync'),
      required: required ? names : [],
    }
    return judge(mirror.release, reading, scene)
  }
}

function localProfile({ release, component, architecture }: Archive, source: string): Profile {
  return checkedProfile('the profile of the archive made here', {
    distro: 'debian',
    source,
    releases: [release],
    components: [component],
    architectures: [architecture],
    allow_unsigned: true,
    buildinfo_url: '{mirror}/{directory}/{source}_{version}_{architecture}.buildinfo',
  })
}

/** Debian does not keep .buildinfo files on its mirrors, so we start from the source package. */
function officialProfile(
  { address, release, architecture }: MachineMirror,
  names: readonly string[],
): Profile {
  return checkedProfile('the profile of this machine’s mirror', {
    distro: 'debian',
    source: address,
    releases: [release],
    components: ['main'],
    architectures: [architecture, 'all'],
    include: [{ source_pkgs: names }],
    build_input: 'dsc',
  })
}

type Reading = { profile: Profile; log: Log; cache: string | null; required: readonly string[] }

async function judge(
  release: string,
  { profile, log, cache, required }: Reading,
  { stage, teller, signal, context }: Scene,
): Promise<Judged[]> {
  const { client } = stage
  const progress = (one: Progress): void => teller.status(`reading ${shownProgress(one)}`)
  const reports = reportsOf(profile, { log, signal, cache, progress })
  const listed = await during(`syncing ${profile.source}`, () => submitAll(reports, client, signal))
  const absent = required.filter((name) => !listed.has(name))
  if (absent.length > 0 || listed.size === 0) {
    const what = absent.length === 0 ? 'none of our packages' : `no source package ${absent.join(', ')}`
    throw new Complaint(`${profile.source} has ${what} in ${release}`)
  }
  const begin = Date.now()
  return untilJudged(
    { distribution: profile.distro, release },
    {
      client,
      signal,
      async onVerdict(judged) {
        teller.say(`  ${verdictLine(judged, paintFor(context.colours))}`)
        for (const line of await explanation(judged, client)) teller.say(line)
      },
      onStatus: ({ done, all, running }) =>
        teller.status(`${done} of ${all} judged, ${Math.round((Date.now() - begin) / 1000)} s${at(running)}`),
    },
  )
}

function at(running: readonly string[]): string {
  return running.length === 0 ? '' : `, at work: ${running.join(', ')}`
}

function shownProgress({ what, done, total }: Progress): string {
  return `${what} ${shownBytes(done)}${total === null ? '' : ` of ${shownBytes(total)}`}`
}
