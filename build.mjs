#!/usr/bin/env node
// Makes dist/: the program as one script and as one executable, the same bytes wherever it is made.
//   node build.mjs [--arch x64|arm64] [--out DIR]    dist/rebuilderd.mjs, dist/rebuilderd (or -arm64), dist/LICENSES.txt
//   node build.mjs --script [--out DIR]              the script alone
//   node build.mjs --verify                          makes it, builds again elsewhere, under other circumstances, and compares
import { execFile } from 'node:child_process'
import { createHash } from 'node:crypto'
import { cp, mkdir, mkdtemp, readFile, rename, rm, symlink, writeFile } from 'node:fs/promises'
import { isBuiltin } from 'node:module'
import { tmpdir } from 'node:os'
import { dirname, join, relative, resolve } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs, promisify } from 'node:util'
import { brotliCompressSync } from 'node:zlib'
import { build as esbuild, transform } from 'esbuild'
import { stripped, withoutLibatomic } from './build/elf.ts'
import { asset, assetNames, threads } from './src/assets.ts'
import { allCommands } from './src/cmd/commands.ts'
import { paceFlags, startFlags } from './src/runtime.ts'

const run = promisify(execFile)
const root = dirname(fileURLToPath(import.meta.url))
const architectures = ['x64', 'arm64']

/** Settings that make a bundle the same in every folder: names relative to the root, links left alone. */
const common = {
  absWorkingDir: root,
  bundle: true,
  platform: 'node',
  target: 'node24',
  preserveSymlinks: true,
  tsconfigRaw: { compilerOptions: { strict: true, verbatimModuleSyntax: true } }, // else that of any folder above us
  legalComments: 'none',
  charset: 'ascii',
  minifyWhitespace: true, // half the size is read in half the time; names stay, for those who report a bug
  minifySyntax: true,
  write: false,
  metafile: true,
  logLevel: 'warning',
}

/**
 * Modules of the runtime are loaded where they are first used: an ES module's imports are all loaded at the start, and
 * node:http alone then takes as long as all of our own code.
 */
const lazyBuiltins = {
  name: 'lazy builtins',
  setup({ onResolve, onLoad }) {
    onResolve({ filter: /^[\w:/]+$/ }, ({ path, namespace }) => {
      if (!isBuiltin(path)) return undefined
      return namespace === 'builtin' ? { path, external: true } : { path, namespace: 'builtin' }
    })
    onLoad({ filter: /./, namespace: 'builtin' }, ({ path }) => ({
      contents: `module.exports = require(${JSON.stringify(path)})`,
    }))
  },
}

/**
 * Code with nothing but ASCII, also in templates and patterns, where esbuild leaves what it finds: a single other character
 * makes all of a program's text take two bytes per character in memory, and twice the time to read.
 */
function inAscii({ text }) {
  const escaped = (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`
  return Buffer.from(text.replace(/[^\0-\x7f]/g, escaped))
}

/** Assets, threads and licences as base64 by name, and the licences as text. */
async function carriedAssets() {
  const carried = {}
  const inputs = new Set()
  for (const [name, module] of Object.entries(threads)) {
    const thread = await esbuild({
      ...common,
      entryPoints: [`src/${module}`],
      format: 'cjs',
      define: { CARRIED_ASSETS: '{}', 'import.meta.url': '"file:///rebuilderd"' },
    })
    for (const input of Object.keys(thread.metafile.inputs)) inputs.add(input)
    const script = brotliCompressSync(inAscii(thread.outputFiles[0])) // every command reads all that we carry
    carried[`threads/${name}.cjs.br`] = script.toString('base64')
  }
  for (const name of assetNames()) carried[name] = Buffer.from(asset(name)).toString('base64')
  for (const input of Object.keys((await bundled({})).metafile.inputs)) inputs.add(input)
  const notices = await licences([...inputs])
  carried['LICENSES.txt.br'] = brotliCompressSync(notices).toString('base64')
  return { carried, notices }
}

/** The program as one ES module that carries everything. */
async function bundled(carried) {
  return await esbuild({
    ...common,
    entryPoints: ['src/main.ts'],
    format: 'esm',
    plugins: [lazyBuiltins],
    define: { CARRIED_ASSETS: JSON.stringify(carried) },
    // packages written for require() need one
    banner: {
      js: "#!/usr/bin/env node\nimport { createRequire as requireFor } from 'node:module'; const require = requireFor(import.meta.url);",
    },
  })
}

/** Leaves modules out that src/cmd/commands.ts would load. */
const without = (...names) => ({
  name: 'without',
  setup({ onResolve, onLoad }) {
    onResolve({ filter: /^\.\/\w+\.ts$/ }, ({ path, importer }) => {
      const isLeftOut = importer.endsWith('src/cmd/commands.ts') && names.includes(path.slice(2, -3))
      return isLeftOut ? { path, namespace: 'left out' } : undefined
    })
    onLoad({ filter: /./, namespace: 'left out' }, ({ path }) => ({
      contents: `throw new Error(${JSON.stringify(`${path} is in another part of the program`)})`,
    }))
  },
})

/**
 * The program in parts, of which the executable reads what it needs: to read all of it takes longer than most commands.
 * What the launcher (build/launch.cjs) knows them by, with their content.
 */
async function parts(carried) {
  const part = async (entryPoint, plugins, external) => {
    const { outputFiles } = await esbuild({
      ...common,
      entryPoints: [entryPoint],
      format: 'cjs',
      supported: { 'dynamic-import': false },
      external,
      plugins: [lazyBuiltins, ...plugins],
      define: { CARRIED_ASSETS: 'globalThis.rebuilderdAssets', 'import.meta.url': '"file:///rebuilderd"' },
    })
    return inAscii(outputFiles[0])
  }
  return {
    'check.cjs': await part(
      'src/main.ts',
      [without('demo', 'serve', 'worker', 'ctl', 'manual')],
      ['openpgp'],
    ),
    'ctl.cjs': await part('src/main.ts', [without('demo', 'serve', 'worker', 'manual')], ['openpgp']),
    'program.cjs': await part('src/main.ts', [], ['openpgp']),
    openpgp: await part('node_modules/openpgp/dist/node/openpgp.mjs', [], []),
    'assets.json': Buffer.from(JSON.stringify(carried)),
  }
}

/** The runtime for an architecture: installed by npm, or else fetched by it and checked against package-lock.json. */
async function runtimeOf(arch) {
  const name = `node-linux-${arch}`
  const lock = JSON.parse(await readFile(join(root, 'package-lock.json'), 'utf8')).packages[
    `node_modules/${name}`
  ]
  const installed = join(root, 'node_modules', name)
  const manifest = await readFile(join(installed, 'package.json'), 'utf8').then(JSON.parse, () => null)
  if (manifest?.version === lock.version) return join(installed, 'bin/node')
  const cache = join(root, 'node_modules/.cache', `${name}-${lock.version}`)
  const kept = join(cache, 'package/bin/node')
  const digest = join(cache, 'sha256')
  const expected = await readFile(digest, 'utf8').catch(() => null)
  if (expected !== null && expected === sha256(await readFile(kept))) return kept
  await rm(cache, { recursive: true, force: true })
  await mkdir(cache, { recursive: true })
  console.log(`fetching ${name} ${lock.version}`)
  await run('npm', ['pack', '--silent', `${name}@${lock.version}`], { cwd: cache })
  const archive = join(cache, `${name}-${lock.version}.tgz`)
  const integrity = `sha512-${createHash('sha512')
    .update(await readFile(archive))
    .digest('base64')}`
  if (integrity !== lock.integrity) throw new Error(`${archive} is not the file that package-lock.json names`)
  await run('tar', ['-xzf', archive, '--no-same-owner', 'package/bin/node', 'package/LICENSE'], {
    cwd: cache,
  })
  await rm(archive)
  await writeFile(digest, sha256(await readFile(kept)))
  return kept
}

/** What the executable runs first, told which commands spare memory. */
async function launcher() {
  const commands = (await allCommands()).filter(({ pace }) => pace === 'sparing')
  const sparingWords = [...new Set(commands.map(({ words }) => words.at(-1)))]
  const { code } = await transform(await readFile(join(root, 'build/launch.cjs'), 'utf8'), {
    define: { COMMANDS: JSON.stringify({ sparingWords, fastFlags: paceFlags.fast }) },
  })
  return code
}

/** Puts the parts into a copy of the runtime (nodejs.org/api/single-executable-applications.html). */
async function executable(parts, arch, output) {
  const work = await mkdtemp(join(tmpdir(), 'rebuilderd-build-'))
  try {
    const bare = stripped(withoutLibatomic(await readFile(await runtimeOf(arch))))
    await writeFile(join(work, 'node'), bare, { mode: 0o755 })
    await writeFile(join(work, 'rebuilderd.cjs'), await launcher())
    for (const [name, content] of Object.entries(parts)) await writeFile(join(work, name), content)
    const config = {
      main: 'rebuilderd.cjs',
      assets: Object.fromEntries(Object.keys(parts).map((name) => [name, name])),
      executable: 'node',
      output: 'rebuilderd',
      disableExperimentalSEAWarning: true,
      useSnapshot: false,
      useCodeCache: false, // it holds times and differs from run to run
      execArgv: startFlags,
      execArgvExtension: 'none', // NODE_OPTIONS are not for us
    }
    await writeFile(join(work, 'sea.json'), JSON.stringify(config))
    await run(process.execPath, ['--build-sea', 'sea.json'], { cwd: work })
    await put(output, await readFile(join(work, 'rebuilderd')), 0o755)
  } finally {
    await rm(work, { recursive: true, force: true })
  }
}

/** The licences of the packages whose files went in, and of the runtime (the same for all architectures). */
async function licences(inputs) {
  const folders = inputs.map((input) => /^(?:.*\/)?node_modules\/(?:@[^/]+\/)?[^/]+/.exec(input)?.[0])
  const texts = ['rebuilderd\n\n' + (await readFile(join(root, 'LICENSE'), 'utf8'))]
  for (const folder of [...new Set(folders)].filter((folder) => folder !== undefined).sort()) {
    texts.push(await licenceOf(folder))
  }
  const runtime = dirname(dirname(await runtimeOf(process.arch)))
  texts.push('node\n\n' + (await readFile(join(runtime, 'LICENSE'), 'utf8')))
  return texts.join(`\n${'='.repeat(80)}\n`)
}

/** The text that a package has, and what it lacks: build/licences has that. */
async function licenceOf(folder) {
  const { name, version, license } = JSON.parse(await readFile(join(root, folder, 'package.json'), 'utf8'))
  const found = []
  for (const file of [
    ...['LICENSE', 'LICENSE.md', 'LICENSE.txt', 'LICENCE', 'license', 'License'].map((each) =>
      join(folder, each),
    ),
    `build/licences/${name}.txt`,
  ]) {
    const text = await readFile(join(root, file), 'utf8').catch(() => null)
    if (text !== null) found.push(text)
  }
  if (found.length === 0)
    throw new Error(`${folder} (${license}) has no licence text: add build/licences/${name}.txt`)
  return [`${name} ${version}`, ...found].join('\n\n')
}

/** Written beside and renamed, so that a running program is never changed under its feet. */
async function put(path, content, mode) {
  await mkdir(dirname(path), { recursive: true })
  const fresh = `${path}.${process.pid}`
  await writeFile(fresh, content, { mode })
  await run('chmod', [mode.toString(8), fresh])
  await rename(fresh, path)
  console.log(`${sha256(content)}  ${relative(process.cwd(), path)}  ${(content.length / 1e6).toFixed(1)} MB`)
}

function sha256(bytes) {
  return createHash('sha256').update(bytes).digest('hex')
}

async function buildInto(out, arch, isScriptOnly = false) {
  const { carried, notices } = await carriedAssets()
  await put(join(out, 'rebuilderd.mjs'), inAscii((await bundled(carried)).outputFiles[0]), 0o755)
  if (isScriptOnly) return
  await put(join(out, 'LICENSES.txt'), Buffer.from(notices), 0o644)
  await executable(
    await parts(carried),
    arch,
    join(out, arch === 'x64' ? 'rebuilderd' : `rebuilderd-${arch}`),
  )
}

/** Into `out` and in two other folders, with other time zones, languages and file modes: one result, or exit code 1. */
async function verify(out, arch) {
  const circumstances = [
    { TZ: 'Pacific/Kiritimati', LC_ALL: 'C', umask: '077' },
    { TZ: 'America/Anchorage', LC_ALL: 'C.UTF-8', umask: '002' },
  ]
  const work = await mkdtemp(join(tmpdir(), 'rebuilderd-verify-'))
  try {
    await buildInto(out, arch)
    const results = [await hashesIn(out, arch)]
    for (const [index, circumstance] of circumstances.entries()) {
      results.push(
        await builtElsewhere(join(work, `folder-${'x'.repeat(index * 9)}`, 'tree'), circumstance, arch),
      )
    }
    return compared(results)
  } finally {
    await rm(work, { recursive: true, force: true })
  }
}

async function builtElsewhere(folder, { umask, ...environment }, arch) {
  for (const part of ['src', 'build', 'build.mjs', 'package.json', 'package-lock.json', 'LICENSE']) {
    await cp(join(root, part), join(folder, part), { recursive: true })
  }
  await symlink(join(root, 'node_modules'), join(folder, 'node_modules'))
  const command = `umask ${umask} && exec "$0" build.mjs --arch ${arch}`
  await run('sh', ['-c', command, process.execPath], { cwd: folder, env: { ...process.env, ...environment } })
  const result = await hashesIn(join(folder, 'dist'), arch)
  await rm(folder, { recursive: true })
  return result
}

async function hashesIn(folder, arch) {
  const hashes = {}
  for (const name of [
    'rebuilderd.mjs',
    arch === 'x64' ? 'rebuilderd' : `rebuilderd-${arch}`,
    'LICENSES.txt',
  ]) {
    hashes[name] = sha256(await readFile(join(folder, name)))
  }
  return hashes
}

function compared([first, ...others]) {
  let same = true
  for (const [name, hash] of Object.entries(first)) {
    const again = others.map((other) => other[name])
    const equal = again.every((other) => other === hash)
    console.log(
      equal
        ? `${hash}  ${name}  the same ${others.length + 1} times`
        : `${name} differs: ${[hash, ...again].join(' ')}`,
    )
    same &&= equal
  }
  return same
}

const { values } = parseArgs({
  options: {
    arch: { type: 'string', default: 'x64' },
    out: { type: 'string', default: join(root, 'dist') },
    script: { type: 'boolean', default: false },
    verify: { type: 'boolean', default: false },
  },
})
if (!architectures.includes(values.arch)) throw new Error(`--arch must be one of ${architectures.join(', ')}`)
if (values.verify) process.exitCode = (await verify(resolve(values.out), values.arch)) ? 0 : 1
else await buildInto(resolve(values.out), values.arch, values.script)
