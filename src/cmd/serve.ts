import { access, readFile } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import { generateSigningKey, publicKeyToPem, signingKeyFromPem, signingKeyToPem } from '../attestation.ts'
import { loadSettings, serverSettings, type ServerSettings } from '../config.ts'
import { Complaint } from '../errors.ts'
import { startServer, type RunningServer } from '../server/serve.ts'
import { command, flag, text, type Context } from './command.ts'
import { configuredCookie, leftCookie } from './credentials.ts'
import { canRead, usualFolder } from './server-choice.ts'
import { runSyncs, syncsOf } from './syncs.ts'

const options = {
  config: text('Configuration to read; else /etc/rebuilderd.conf if there is one', {
    short: 'c',
    placeholder: 'FILE',
  }),
  data: text(
    'Folder of everything that is kept; default /var/lib/rebuilderd as root, else ~/.local/state/rebuilderd',
    {
      placeholder: 'DIR',
    },
  ),
  listen: text('Address and port to listen on; default http.bind_addr of the configuration', {
    placeholder: 'ADDR:PORT',
  }),
  basePath: text('Path under which everything is served, such as /amd64', { placeholder: 'PATH' }),
  signupSecret: text('Secret that a worker needs to register', { placeholder: 'SECRET' }),
  signingKey: text('Key that countersigns attestations; made when it is missing', {
    placeholder: 'FILE',
    environment: 'REBUILDERD_SIGNING_KEY',
  }),
  checkConfig: flag('Print the settings in force, without secrets, and end'),
  keygen: flag('Print a new signing key and its public key, and end'),
  derivePubkey: text('Print the public key of a signing key, and end', { placeholder: 'FILE' }),
}

export const serve = command(
  'serve',
  'Run the server: it keeps packages, queue and verdicts, and answers clients and workers',
  options,
  async (_, given, context) => {
    const [action, ...others] = [
      ...(given.checkConfig ? [() => checkConfig(given, context)] : []),
      ...(given.keygen ? [async () => printNewKey(context)] : []),
      ...(given.derivePubkey === undefined ? [] : [() => printPublicKey(given.derivePubkey ?? '', context)]),
    ]
    if (others.length > 0)
      throw new Complaint('give only one of --check-config, --keygen, --derive-pubkey', { exitCode: 2 })
    await (action ?? (() => run(given, context)))()
  },
  { pace: 'sparing' },
)

type Options = {
  config: string | undefined
  data: string | undefined
  listen: string | undefined
  basePath: string | undefined
} & {
  signupSecret: string | undefined
  signingKey: string | undefined
}

/** The configuration, with the command line over it. */
async function settingsOf(given: Options, context: Context): Promise<ServerSettings> {
  const usual = '/etc/rebuilderd.conf'
  const hasUsual = await access(usual).then(
    () => true,
    () => false,
  )
  const files = given.config === undefined ? (hasUsual ? [usual] : []) : [given.config]
  const settings = await loadSettings(serverSettings, files, context.environment)
  return {
    ...settings,
    'auth.cookie': await configuredCookie(given.config, context.environment),
    'http.bind_addr': given.listen ?? settings['http.bind_addr'],
    'http.base_path': given.basePath ?? settings['http.base_path'],
    'worker.signup_secret': given.signupSecret ?? settings['worker.signup_secret'],
  }
}

async function checkConfig(given: Options, context: Context): Promise<void> {
  const secrets = new Set(['auth.cookie', 'worker.signup_secret', 'endpoints'])
  for (const [name, value] of Object.entries(await settingsOf(given, context))) {
    const isUnset = value === null || (typeof value === 'object' && Object.keys(value).length === 0)
    const shown = isUnset ? '(unset)' : secrets.has(name) ? '(set, not shown)' : JSON.stringify(value)
    context.out(`${name} = ${shown}`)
  }
}

function printNewKey({ write }: Context): void {
  const key = generateSigningKey()
  write(signingKeyToPem(key))
  write(publicKeyToPem(key.publicKey))
}

async function printPublicKey(file: string, { write }: Context): Promise<void> {
  const pem = await readFile(file, 'utf8').catch((error: unknown) => {
    throw new Complaint(`cannot read ${file}`, { cause: error })
  })
  const blocks = pem.match(/-----BEGIN PRIVATE KEY-----[^-]*-----END PRIVATE KEY-----/g)
  if (blocks === null) throw new Complaint(`${file} holds no PRIVATE KEY block`)
  for (const block of blocks) write(publicKeyToPem(signingKeyFromPem(block).publicKey))
}

async function run(given: Options, context: Context): Promise<void> {
  const { log, signal, environment } = context
  const usual = usualFolder(environment)
  const data = resolve(given.data ?? usual)
  const settings = await settingsOf(given, context)
  const syncs = syncsOf(settings.sync)
  const named = environment['REBUILDERD_COOKIE_PATH'] ?? ''
  const cookieFile = named === '' ? join(data, 'auth-cookie') : named
  const isFirst = data === usual && !(await canRead(cookieFile))
  const cookie = settings['auth.cookie'] ?? (isFirst ? await leftCookie(environment) : null)
  const server = await startServer({
    settings: { ...settings, 'auth.cookie': cookie },
    data,
    signingKey: given.signingKey,
    cookieFile,
    log,
  })
  tellReady(server, data, context)
  const runner = { server: { base: server.address, cookie: server.cookie }, log, signal }
  await Promise.all([runSyncs(syncs, { ...runner, cache: join(data, 'sync') }), aborted(signal)])
  log.info('stopping: answering what was asked')
  await server.stop()
}

function aborted(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve()
    signal.addEventListener('abort', () => resolve(), { once: true })
  })
}

/** One line for people and for programs that wait for it, then what to do next. */
function tellReady(server: RunningServer, data: string, { out, err }: Context): void {
  out(`rebuilderd is ready at ${server.address} (data in ${data})`)
  if (server.isClosed) {
    err(
      'No worker can register yet: start with --signup-secret SECRET, or set worker.signup_secret or worker.authorized_workers.',
    )
  } else {
    err(`Next: on a build box \`rebuilderd worker --secret SECRET ${server.address}\`;`)
  }
  err(
    `      here \`rebuilderd ctl pkgs sync debian URL --component main --release trixie --architecture amd64\`.`,
  )
}
