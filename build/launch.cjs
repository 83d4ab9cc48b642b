// What the executable runs first: it reads the part of the program that is asked for (build.mjs makes them).
const { basename } = require('node:path')
const { getAsset } = require('node:sea')
const { setFlagsFromString } = require('node:v8')
const { compileFunction } = require('node:vm')

const loaded = new Map()

function load(name) {
  if (name !== 'openpgp' && !name.endsWith('.cjs')) return require(name)
  if (!loaded.has(name)) {
    const module = { exports: {} }
    loaded.set(name, module)
    const run = compileFunction(getAsset(name, 'utf8'), ['exports', 'require', 'module'], { filename: name })
    run(module.exports, load, module)
  }
  return loaded.get(name).exports
}

let assets
Object.defineProperty(globalThis, 'rebuilderdAssets', {
  get: () => (assets ??= JSON.parse(getAsset('assets.json', 'utf8'))),
})

/** Put in by build.mjs: last words of commands that spare memory, and the flags of the runtime for all others. */
const { sparingWords, fastFlags } = COMMANDS

/** Commands of other words need more than the part for `ctl` has; these words may stand anywhere in it. */
const others = ['demo', 'serve', 'worker', 'licenses', 'manual', 'completions', 'help']

function partFor(args) {
  const isRenamed = [process.argv0, process.argv[1]].some(
    (path) => basename(path) !== basename(process.execPath),
  )
  if (isRenamed) return 'program.cjs'
  if (args.length === 1 && /^(--version|-V)$/.test(args[0])) return 'check.cjs' // the smallest one
  if (args[0] !== 'ctl') return 'program.cjs'
  if (args[1] === 'check') return 'check.cjs'
  return args.some((arg) => others.includes(arg)) ? 'program.cjs' : 'ctl.cjs'
}

const args = process.argv.slice(2)
const part = partFor(args)
// Commands say themselves whether they spare memory or time (src/cmd/run.ts). The runtime's own modules are there as it
// was built and compiled anew where its flags are others, so a command that spares time has its flags before all else.
const isSparing = part === 'program.cjs' || args.some((arg) => sparingWords.includes(arg))
if (!isSparing) fastFlags.forEach((flag) => setFlagsFromString(flag))
load(part)
