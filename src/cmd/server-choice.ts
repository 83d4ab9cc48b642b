import { readFile } from 'node:fs/promises'
import { homedir } from 'node:os'
import { join } from 'node:path'
import { loadSettings, serverSettings, type ServerSettings } from '../config.ts'
import { text, type Given, type OptionsTable } from './command.ts'

/** Which server a command talks to, and as whom. */
export const serverOptions = {
  endpoint: text('Server to talk to; else http.endpoint of the configuration, else http://127.0.0.1:8484', {
    short: 'H',
    placeholder: 'URL',
  }),
  config: text('Configuration to read after /etc/rebuilderd.conf and ~/.config/rebuilderd.conf', {
    short: 'c',
    placeholder: 'FILE',
  }),
  cookieFile: text('File with the secret of the administrators of this very server', { placeholder: 'FILE' }),
} as const satisfies OptionsTable
export type ServerOptions = Given<typeof serverOptions>

export const localServer: string = serverSettings['http.endpoint'].fallback

export type Environment = Readonly<Record<string, string | undefined>>

export type ConfigFile = {
  path: string
  settings: ServerSettings
  /** The server that the files up to this one name. */
  endpoint: string
}

type Server = {
  endpoint: string
  /** The files that are there, the weakest first. */
  files: readonly ConfigFile[]
}

/** `-H`, else what the last configuration file says, else the server of this machine. */
export async function chooseServer(
  options: Pick<ServerOptions, 'endpoint' | 'config'>,
  environment: Environment,
): Promise<Server> {
  const files: ConfigFile[] = []
  let endpoint: string = localServer
  for (const path of await configPaths(options.config, environment)) {
    const settings = await loadSettings(serverSettings, [path])
    const together = await loadSettings(serverSettings, [...files.map((file) => file.path), path])
    endpoint = together['http.endpoint']
    files.push({ path, settings, endpoint })
  }
  return { endpoint: options.endpoint ?? endpoint, files }
}

/** Files that are there; the one that was asked for must be. */
async function configPaths(asked: string | undefined, environment: Environment): Promise<string[]> {
  const folder = folderOf(environment, 'XDG_CONFIG_HOME', '.config')
  const paths: string[] = []
  for (const path of ['/etc/rebuilderd.conf', join(folder, 'rebuilderd.conf')]) {
    if (await canRead(path)) paths.push(path)
  }
  return asked === undefined ? paths : [...paths, asked]
}

/** A folder of the XDG base directory specification. */
export function folderOf(environment: Environment, variable: string, fallback: string): string {
  const given = environment[variable] ?? ''
  return given.startsWith('/') ? given : join(environment['HOME'] ?? homedir(), fallback)
}

/** Whether a file is there and may be read. */
export async function canRead(path: string): Promise<boolean> {
  try {
    await readFile(path)
    return true
  } catch {
    return false // it may hold secrets that are not ours: then we do without
  }
}

/** Where a server keeps its data unless told otherwise (specifications.freedesktop.org/basedir-spec). */
export function usualFolder(environment: Readonly<Record<string, string | undefined>>): string {
  if (process.getuid?.() === 0) return '/var/lib/rebuilderd'
  return join(environment['XDG_STATE_HOME'] ?? join(homedir(), '.local/state'), 'rebuilderd')
}
