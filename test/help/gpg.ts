import { execFileSync, spawnSync } from 'node:child_process'
import { mkdtempSync, readdirSync, readFileSync } from 'node:fs'
import { rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { TestContext } from 'node:test'

/** A home of GnuPG with throw-away keys, gone when the test is. */
export type Gpg = {
  home: string
  /** Makes a key that may sign, at a day (`20250101T000000`) and for some days, where given; its fingerprint. */
  key: (name: string, options?: { day?: string; days?: number }) => string
  /** Writes the public keys of these fingerprints to a file, as archives hand them out. */
  exported: (file: string, ...keys: readonly string[]) => void
  /** Publishes that a key was lost. */
  revoke: (key: string) => void
  /** Signs a file beside itself, or around its text. */
  sign: (key: string, file: string, how: 'clear' | 'detached', to: string, day?: string) => void
}

export function openGpg(t: TestContext): Gpg {
  const home = mkdtempSync(join(tmpdir(), 'rebuilderd-gpg-'))
  const gpg = (args: readonly string[], day?: string, input = ''): void => {
    const clock = day === undefined ? [] : ['--faked-system-time', `${day}!`]
    const usual = [
      '--homedir',
      home,
      '--batch',
      '--yes',
      '--quiet',
      '--pinentry-mode',
      'loopback',
      '--passphrase',
      '',
    ]
    execFileSync('gpg', [...usual, ...clock, ...args], { input, stdio: ['pipe', 'pipe', 'pipe'] })
  }
  t.after(async () => {
    spawnSync('gpgconf', ['--homedir', home, '--kill', 'all'])
    await rm(home, { recursive: true, force: true })
  })
  const listed = (): Set<string> =>
    new Set(
      execFileSync('gpg', ['--homedir', home, '--batch', '--with-colons', '--list-secret-keys'], {
        stdio: ['ignore', 'pipe', 'ignore'],
      })
        .toString()
        .split('\n')
        .filter((line) => line.startsWith('fpr:'))
        .map((line) => line.split(':')[9] ?? ''),
    )
  return {
    home,
    key(name, { day, days } = {}) {
      const before = listed()
      gpg(
        [
          '--quick-gen-key',
          `${name} <${name}@archive.example>`,
          'rsa2048',
          'sign',
          days === undefined ? 'never' : `${days}d`,
        ],
        day,
      )
      return [...listed().difference(before)][0] ?? ''
    },
    exported: (file, ...keys) => gpg(['--output', file, '--export', ...keys]),
    revoke(key) {
      const folder = join(home, 'openpgp-revocs.d')
      const name = readdirSync(folder).find((one) => one.startsWith(key)) ?? ''
      // GnuPG keeps the certificate with a colon before its armour, lest somebody imports it by mistake.
      gpg(
        ['--import'],
        undefined,
        readFileSync(join(folder, name), 'utf8').replace(':-----BEGIN', '-----BEGIN'),
      )
    },
    sign(key, file, how, to, day) {
      const armour = how === 'clear' ? ['--clearsign'] : ['--armor', '--detach-sign']
      gpg(['--local-user', key, '--output', to, ...armour, file], day)
    },
  }
}

/** Changes one byte in the middle of the first place that has `text`. */
export async function withOneByteChanged(file: string, text: string): Promise<void> {
  const bytes = readFileSync(file)
  const at = bytes.indexOf(text)
  if (at < 0) throw new Error(`${file} has no ${text}`)
  bytes[at] = (bytes[at] ?? 0) ^ 0x20
  await writeFile(file, bytes)
}
