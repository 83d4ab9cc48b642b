import assert from 'node:assert/strict'
import { test } from 'node:test'
import { builtInBackends } from '../../src/worker/backend.ts'
import { checkBackends } from '../../src/worker/doctor.ts'
import { asset } from '../../src/assets.ts'
import { aFolder, lacksPrograms } from '../help/debs.ts'

const signal = AbortSignal.timeout(30_000)

test('every built-in backend is told of, and comes with its script', async () => {
  const { backends } = await checkBackends(signal)

  assert.deepEqual(
    backends.map((backend) => backend.name),
    builtInBackends.map((backend) => backend.name),
  )
  for (const { script } of builtInBackends)
    assert.match(Buffer.from(asset(script)).toString(), /^#!\/bin\/bash\n# \S/)
})

test('on a bare machine each backend says what installs it', async (t) => {
  const path = process.env['PATH']
  t.after(() => (process.env['PATH'] = path))
  process.env['PATH'] = await aFolder(t)

  const { backends } = await checkBackends(signal)

  const [debian] = backends
  assert.equal(debian?.works, false)
  assert.match(
    debian.install ?? '',
    /^apt-get update && apt-get install --no-install-recommends .*\bmmdebstrap\b/,
  )
  assert.ok(backends.every((backend) => backend.missing.length > 0 && !backend.works))
})

test(
  'a machine with the programs can rebuild Debian packages',
  { skip: lacksPrograms('mmdebstrap', 'dpkg-buildpackage') },
  async () => {
    const { backends } = await checkBackends(signal)

    assert.equal(backends.find((backend) => backend.name === 'debian')?.works, true)
  },
)
