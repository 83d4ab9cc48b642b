import type { Client } from '../client.ts'
import { Complaint, didYouMean } from '../errors.ts'
import { printable } from '../log.ts'
import { listBinaryPackages, listSourcePackages } from '../wire/packages.ts'
import type { Context } from './command.ts'

const lists = { source: listSourcePackages, binary: listBinaryPackages }
type Kind = keyof typeof lists

/**
 * A complaint where the server lists no package of that name in any version, with a hint at what may have been meant.
 * @returns null where it lists one, or could not be asked
 */
export async function unknownName(client: Client, kind: Kind, name: string): Promise<Complaint | null> {
  try {
    if ((await namesOf(client, kind, { name, limit: 1 })).length > 0) return null
    return new Complaint(`the server knows no ${kind === 'source' ? 'source ' : ''}package ${name}`, {
      hint: (await hintFor(client, kind, name)) ?? 'names are exact; `ctl pkgs ls` lists what there is',
    })
  } catch {
    return null // an older server, or one that is out of reach; what was asked for has been answered
  }
}

/**
 * For a command that found nothing to do. Called as rebuildctl it is only said: scripts of that program's users know
 * success here.
 * @returns whether the server lists no package of that name
 * @throws Complaint then, under our own name
 */
export async function refuseUnknown(
  client: Client,
  kind: Kind,
  name: string,
  { program, err }: Context,
): Promise<boolean> {
  const unknown = await unknownName(client, kind, name)
  if (unknown === null) return false
  if (program !== 'rebuildctl') throw unknown
  err(printable(`${unknown.message} (${unknown.hint})`))
  return true
}

/** Names that begin as this one does are looked through for one that is near it. */
async function hintFor(client: Client, kind: Kind, name: string): Promise<string | undefined> {
  if (kind === 'source') {
    const { records } = await client.call(listBinaryPackages, { query: { name, limit: 1 } })
    const source = records[0]?.source_name
    if (source !== undefined && source !== null) return `${name} is built from the source package ${source}`
  }
  const begin = name.slice(0, Math.max(1, Math.floor(name.length / 2)))
  const names = await namesOf(client, kind, { search: begin, search_type: 'starts_with', limit: mostNames })
  return didYouMean(name, new Set(names))
}

const mostNames = 1000

async function namesOf(
  client: Client,
  kind: Kind,
  query: { name?: string; search?: string; search_type?: 'starts_with'; limit: number },
): Promise<string[]> {
  const { records } = await client.call(lists[kind], { query })
  return records.map((record) => record.name)
}
