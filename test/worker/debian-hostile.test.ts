/** What a build may do to the worker, by the built-in Debian backend alone; verdicts.test.ts has what whole rebuilds come to. */
import assert from 'node:assert/strict'
import { readFile, readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { defaultLimits } from '../../src/worker/backend.ts'
import { rebuildDebian, type DebianRun } from '../help/debian.ts'
import {
  aFolder,
  aSource,
  buildOriginals,
  buildinfoFor,
  debianArchitecture,
  lacksPrograms,
} from '../help/debs.ts'
import { clean, leftovers, forEver } from '../help/machine.ts'

const skip = lacksPrograms('dpkg-buildpackage', 'unshare', 'apt-get', 'setpriv')
const architecture = skip === false ? debianArchitecture() : ''
const mebibyte = 1024 * 1024
let workshop = ''
let template = ''

before(async () => {
  if (skip !== false) return
  workshop = await mkdtemp(join(tmpdir(), 'rebuilderd-test-'))
  const dsc = await aSource(workshop, { name: 'template', make: 'echo > made' })
  template = await buildOriginals(dsc, workshop)
})
after(() => (workshop === '' ? undefined : rm(workshop, { recursive: true, force: true })))

type Row = {
  name: string
  make: string
  /** Of the script: 0 built, 1 the build failed, 'stopped' by us. */
  exits: 0 | 1 | 'stopped'
  says?: RegExp
  more?: DebianRun
}

const table: Row[] = [
  {
    name: 'ignores-signals',
    make: `perl -e '$SIG{TERM} = $SIG{HUP} = $SIG{INT} = "IGNORE"; setpgrp; sleep ${forEver}'`,
    exits: 'stopped',
    says: /TRUNCATED DUE TO TIMEOUT: 4 seconds/,
    more: { timeoutSeconds: 4 },
  },
  {
    name: 'writes-a-huge-file',
    make: 'head -c 1000000000 /dev/zero > huge',
    exits: 1,
    more: { limits: { ...defaultLimits, fileBytes: 50 * mebibyte } },
  },
  {
    name: 'talks-too-much',
    make: 'yes chatter | head -c 30000000; echo > made',
    exits: 0,
    says: /chatter\n\n\nTRUNCATED DUE TO SIZE LIMIT: 900000 bytes\n\n$/,
    more: { maxLogBytes: 900_000 },
  },
  {
    name: 'needs-network',
    make: 'getent hosts mirror.example; cat < /dev/tcp/192.0.2.1/80 > made',
    exits: 1,
  },
  {
    name: 'has-no-way-out',
    make: 'perl -MIO::Socket -e "IO::Socket::INET->new(q(192.0.2.1:80)) or die qq(no way: \\$!)"',
    exits: 1,
    says: /no way: Network is unreachable/,
  },
  {
    name: 'talks-to-itself',
    make: 'perl -MIO::Socket -e "IO::Socket::INET->new(Listen => 1, LocalAddr => q(127.0.0.1)) or die" > made',
    exits: 0,
  },
  {
    name: 'writes-elsewhere',
    make: 'for f in /x /etc/x /usr/x /root/x /run/x; do ! echo x > $f || exit 9; done 2>/dev/null; echo > made; ls -d / > /tmp/x',
    exits: 0,
  },
  {
    name: 'looks-for-the-original',
    make: 'env | sort; ! ls -d /tmp/rebuilderd* /var/tmp/rebuild* /home/* /root/* "$HOME" 2>/dev/null || exit 9; echo > made',
    exits: 0,
    says: /^(?![\s\S]*REBUILDERD_)/,
  },
  {
    name: 'is-nobody',
    make: 'test "$(id -u)" = 1234; ! mount -t tmpfs x /tmp 2>/dev/null; ! unshare -n true 2>/dev/null || :; echo > made',
    exits: 0,
  },
  {
    name: 'leaves-links',
    make: 'ln -s /etc/passwd ../leaves-links-extra_1.0_all.deb; mkfifo ../pipe_1.0_all.deb; echo > made',
    exits: 0,
  },
]

for (const row of table) {
  test(`a package that ${row.name.replaceAll('-', ' ')} → ${row.exits}`, { skip }, async (t) => {
    const folder = await aFolder(t)
    const directory = join(folder, 'job')
    await aSource(folder, { name: row.name, make: row.make })
    const input = await buildinfoFor(template, folder, row.name)

    const result = await rebuildDebian(t, input, {
      directory,
      job: { name: row.name, artifacts: [`${row.name}_1.0_${architecture}.deb`] },
      isolation: 'require',
      ...row.more,
    })
    await result.tidy()

    const log = Buffer.from(result.log).toString()
    const end = result.timedOut && result.exitCode !== 0 ? 'stopped' : result.exitCode
    assert.equal(end, row.exits, log.slice(-5000))
    if (row.says !== undefined) assert.match(log, row.says)
    assert.deepEqual(leftovers(directory), clean)
    assert.deepEqual(leftovers(forEver).processes, [])
    const made = (await readdir(result.outdir)).filter((file) => file.endsWith('deb'))
    assert.deepEqual(made, row.exits === 0 ? [`${row.name}_1.0_${architecture}.deb`] : [])
    assert.match(await readFile('/etc/passwd', 'utf8'), /^root:/)
  })
}
