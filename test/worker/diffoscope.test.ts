import assert from 'node:assert/strict'
import { chmod, mkdir, mkdtemp, readFile, readdir, rm, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { test } from 'node:test'
import { diffoscope } from '../../src/worker/diffoscope.ts'
import { findUserNamespace } from '../../src/worker/sandbox.ts'
import { aFolder, lacksPrograms, sandbox } from '../help/debs.ts'
import { leftovers, forEver } from '../help/machine.ts'
import { patienceSeconds } from '../help/until.ts'

const { signal } = new AbortController()
const kind = await findUserNamespace(sandbox, signal)
const noRoot = process.getuid?.() === 0 ? false : 'needs root, to put a program below /opt'
const skip = kind === null ? 'this machine does not let us make namespaces' : noRoot

/** A job's folder with an original, what a build made of it, and something that is none of diffoscope's business. */
async function aJobFolder(t: Parameters<typeof aFolder>[0]) {
  const directory = join(await aFolder(t), 'job')
  await mkdir(join(directory, 'originals/0'), { recursive: true, mode: 0o700 })
  await mkdir(join(directory, 'build/out'), { recursive: true, mode: 0o700 })
  const [original, rebuilt] = [join(directory, 'originals/0/a.txt'), join(directory, 'build/out/a.txt')]
  await writeFile(original, 'one\n', { mode: 0o600 })
  await writeFile(rebuilt, 'two\n', { mode: 0o600 })
  await writeFile(join(directory, 'job.json'), 'hush')
  return { directory, original, rebuilt }
}

test(
  'what looks at the files of a build sees nothing else and has no rights, network or way out',
  { skip },
  async (t) => {
    const { directory, original, rebuilt } = await aJobFolder(t)
    const programs = await mkdtemp('/opt/rebuilderd-test-')
    await chmod(programs, 0o755)
    const { PATH = '' } = process.env
    t.after(() => (process.env['PATH'] = PATH))
    t.after(() => rm(programs, { recursive: true, force: true }))
    process.env['PATH'] = `${programs}:${PATH}`
    const lines = [
      'id -u',
      'grep CapEff /proc/self/status',
      'tail -n +3 /proc/net/dev | cut -d: -f1',
      'find . -type f | sort',
      'cat originals/0/a.txt build/out/a.txt',
      'for f in originals/0/a.txt build/out/a.txt /etc/x; do echo x > $f; done',
      `ls ${join(directory, '..')}`,
      'echo page > diffoscope.html; echo x > "$TMPDIR/x"',
      `setsid sleep ${forEver} &`,
    ]
    await writeFile(join(programs, 'diffoscope'), `#!/bin/sh\n${lines.join('\n')}\n`, { mode: 0o755 })
    const settings = { args: [], timeoutSeconds: patienceSeconds, maxBytes: null, html: true }

    const { text, html } = await diffoscope(original, rebuilt, settings, {
      directory,
      isolation: 'auto',
      signal,
    })

    const said = Buffer.from(text).toString()
    const seen = '\\./build/out/a\\.txt\n\\./originals/0/a\\.txt\none\ntwo\n'
    assert.match(said, new RegExp(`^1234\nCapEff:\t0+\n *lo\n${seen}`))
    assert.equal(said.match(/Read-only file system/g)?.length, 3)
    assert.match(said, /^job$/m)
    assert.equal(Buffer.from(html ?? []).toString(), 'page\n')
    assert.equal(await readFile(original, 'utf8'), 'one\n')
    assert.deepEqual((await readdir(directory)).sort(), ['build', 'job.json', 'originals'])
    assert.deepEqual(leftovers(forEver).processes, [])
    await assert.rejects(stat('/etc/x'))
  },
)

test('diffoscope itself works there', { skip: skip || lacksPrograms('diffoscope') }, async (t) => {
  const { directory, original, rebuilt } = await aJobFolder(t)
  const settings = { args: [], timeoutSeconds: patienceSeconds, maxBytes: null, html: true }

  const { text, html } = await diffoscope(original, rebuilt, settings, {
    directory,
    isolation: 'auto',
    signal,
  })

  const said = Buffer.from(text).toString()
  assert.match(said, /^--- originals\/0\/a\.txt\n\+\+\+ build\/out\/a\.txt\n.*\n-one\n\+two\n$/s)
  assert.match(Buffer.from(html ?? []).toString(), /two/)
})
