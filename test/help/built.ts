/** The executable that `npm test` makes before its tests, for all of them: it starts faster than the source tree. */
import { execFileSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, readFileSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'

const root = join(import.meta.dirname, '../..')
const folder = join(root, 'node_modules/.cache/program')
const stamp = join(folder, 'stamp')
const inputs = ['src', 'build', 'build.mjs', 'package-lock.json', 'LICENSE']

/**
 * The folder that `build.mjs` has filled from the sources as they are now. Absent where they changed since, and where
 * REBUILDERD_TEST_SOURCES is set: tests then run the source tree.
 */
export function builtFolder(): string | undefined {
  if (process.env['REBUILDERD_TEST_SOURCES'] || !existsSync(stamp)) return undefined
  return readFileSync(stamp, 'utf8') === stateOfSources() ? folder : undefined
}

/** Fills that folder, unless it is up to date. */
function build(): void {
  if (process.arch !== 'x64' || process.env['REBUILDERD_TEST_SOURCES'] || builtFolder() !== undefined) return
  rmSync(stamp, { force: true })
  const state = stateOfSources()
  execFileSync(process.execPath, ['build.mjs', '--out', folder], { cwd: root, stdio: 'inherit' })
  writeFileSync(stamp, state)
}

/** One text for paths, sizes and times of everything that goes into the program. */
function stateOfSources(): string {
  const hash = createHash('sha256')
  for (const input of inputs) {
    const path = join(root, input)
    const below = statSync(path).isDirectory()
      ? readdirSync(path, { recursive: true, encoding: 'utf8' })
      : ['']
    for (const name of below.sort()) {
      const { size, mtimeMs, mode } = statSync(join(path, name))
      hash.update(`${join(input, name)} ${size} ${mtimeMs} ${mode}\n`)
    }
  }
  return hash.digest('hex')
}

if (import.meta.main) build()
