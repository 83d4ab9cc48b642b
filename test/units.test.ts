import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { test, type TestContext } from 'node:test'
import { unitEnvironment } from './bench/process.ts'
import { aFolder } from './help/files.ts'
import { firstArgs, program } from './cmd/program.ts'

const root = join(import.meta.dirname, '..')
const hasSystemd = spawnSync('systemd-analyze', ['--version']).status === 0
const skip = hasSystemd ? false : 'needs systemd-analyze of the Debian package systemd'

/** A copy of a unit whose program exists on every machine. */
async function aUnit(t: TestContext, unit: string, name = unit): Promise<string> {
  const path = join(await aFolder(t), name)
  writeFileSync(
    path,
    readFileSync(join(root, unit), 'utf8').replaceAll('/usr/local/bin/rebuilderd', '/bin/true'),
  )
  return path
}

for (const [unit, name] of [
  ['rebuilderd.service', 'rebuilderd.service'],
  ['rebuilderd-worker@.service', 'rebuilderd-worker@one.service'],
] as const) {
  test(`systemd understands every line of ${unit}`, { skip }, async (t) => {
    const path = await aUnit(t, unit, name)

    const run = spawnSync('systemd-analyze', ['verify', path], { encoding: 'utf8' })

    const ours = run.stderr.split('\n').filter((line) => line.includes(name))
    assert.deepEqual(ours, [])
  })

  test(`${unit} starts a command that we have, with options that it knows`, () => {
    const [, line = ''] =
      /^ExecStart=\/usr\/local\/bin\/rebuilderd (.*)$/m.exec(readFileSync(join(root, unit), 'utf8')) ?? []
    const args = line.replace('%i', 'one').split(' ')

    const run = spawnSync(program, [...firstArgs, ...args, '--help'], {
      encoding: 'utf8',
    })

    const help = run.stdout
    assert.match(help, /^Usage: /m)
    for (const option of args.filter((arg) => arg.startsWith('-'))) assert.ok(help.includes(option), option)
  })
}

for (const [what, unit, name, most] of [
  ['the server is kept away from the rest of the machine', 'rebuilderd.service', 'rebuilderd', 2],
  // Who makes build roots has to mount, to make devices and to become others: that alone is 7 points of 10.
  ['the worker is kept from what it does not need', 'rebuilderd-worker@.service', 'rebuilderd-worker@one', 8],
] as const) {
  test(what, { skip }, async (t) => {
    const path = await aUnit(t, unit, `${name}.service`)

    const run = spawnSync('systemd-analyze', ['security', '--offline=true', '--no-pager', path], {
      encoding: 'utf8',
    })

    const exposure = Number(/exposure level for \S+\.service: ([\d.]+)/.exec(run.stdout)?.[1])
    assert.ok(exposure < most, String(exposure))
  })
}

test('whatever keeps the server from starting, systemd does not give up', () => {
  const unit = readFileSync(join(root, 'rebuilderd.service'), 'utf8')

  assert.match(unit, /^StartLimitIntervalSec=0$/m)
  assert.match(unit, /^Restart=always$/m)
})

test('what is measured runs with the environment that the unit gives the server', () => {
  const unit = readFileSync(join(root, 'rebuilderd.service'), 'utf8')

  const given = [...unit.matchAll(/^Environment=(\w+)=(.*)$/gm)].map(([, name = '', value = '']) => [
    name,
    value,
  ])
  assert.deepEqual(Object.fromEntries(given), unitEnvironment)
})

test('the unit of the worker hands on what limits and kills builds', () => {
  const unit = readFileSync(join(root, 'rebuilderd-worker@.service'), 'utf8')

  assert.match(unit, /^Delegate=(yes|.*\bmemory\b.*\bpids\b)/m)
  assert.match(unit, /^OOMPolicy=continue$/m) // a build over its memory must not end the worker
  assert.match(unit, /^KillMode=mixed$/m) // nor may a stop reach builds before the worker has
  assert.match(unit, /^StartLimitIntervalSec=0$/m)
  assert.doesNotMatch(unit, /^(PrivateUsers|ProtectControlGroups|RestrictNamespaces)=(yes|true)/m)
  const withheld = unit.match(/^CapabilityBoundingSet=~.*$/gm)?.join(' ') ?? ''
  assert.match(withheld, /CAP_SYS_BOOT/)
  assert.doesNotMatch(withheld, /CAP_(SYS_(ADMIN|PTRACE|CHROOT|RESOURCE)|MKNOD|NET_ADMIN|SETFCAP|SETPCAP)\b/) // sandboxes do
})
