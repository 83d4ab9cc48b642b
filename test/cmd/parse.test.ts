import assert from 'node:assert/strict'
import { test } from 'node:test'
import { choice, command, count, flag, number, text, texts, type Command } from '../../src/cmd/command.ts'
import { allCommands } from '../../src/cmd/commands.ts'
import { globalOptions, parse } from '../../src/cmd/parse.ts'
import { Complaint } from '../../src/errors.ts'

const server = { endpoint: text('Server', { short: 'H' }), config: text('File', { short: 'c' }) }
const nothing = async (): Promise<void> => {}
const commands: readonly Command[] = [
  command(
    'serve',
    'Serve',
    { config: text('File', { short: 'c' }), token: text('T', { environment: 'TOKEN' }) },
    nothing,
  ),
  command(
    'ctl pkgs ls [name]',
    'List',
    {
      ...server,
      version: text('Version'),
      component: texts('Component', { aliases: ['suite'] }),
      status: choice('Status', ['GOOD', 'BAD']),
      planned: flag('All', { short: 'p' }),
      json: flag('JSON'),
    },
    nothing,
  ),
  command(
    'ctl queue push <distro> <component> [name] [version]',
    'Push',
    { ...server, priority: number('P') },
    nothing,
  ),
  command('worker [endpoint]', 'Work', { name: text('Name', { short: 'n' }) }, nothing),
  command('worker build <distro> <url>', 'Build', {}, nothing),
  command('check [...files]', 'Check', { loud: count('Loud') }, nothing),
]

/** What the options and positionals of an argv are, without those that were not given. */
function read(...argv: string[]): { usage: string; given: Record<string, unknown>; positionals: unknown[] } {
  const request = parse(argv, commands, {})
  assert.equal(request.wants, 'run')
  if (request.wants !== 'run') throw new Error('unreachable')
  const given = Object.entries(request.options).filter(
    ([, value]) =>
      value !== undefined && value !== false && value !== 0 && !(Array.isArray(value) && value.length === 0),
  )
  return {
    usage: request.command.words.join(' '),
    given: Object.fromEntries(given),
    positionals: request.positionals,
  }
}

for (const [argv, usage, given, positionals] of [
  [['ctl', 'pkgs', 'ls', '--version', '1.10'], 'ctl pkgs ls', { version: '1.10' }, []],
  [['ctl', 'pkgs', 'ls', '--version=1e5', '0x10'], 'ctl pkgs ls', { version: '1e5' }, ['0x10']],
  [['ctl', 'pkgs', 'ls', '--version', 'true', 'false'], 'ctl pkgs ls', { version: 'true' }, ['false']],
  [['ctl', 'pkgs', 'ls', '--json', 'true'], 'ctl pkgs ls', { json: true }, ['true']],
  [['ctl', '--version', '1.10', 'pkgs', 'ls'], 'ctl pkgs ls', { version: '1.10' }, []],
  [['-H', 'http://a', 'ctl', 'pkgs', 'ls'], 'ctl pkgs ls', { endpoint: 'http://a' }, []],
  [['ctl', '-Hhttp://a', 'pkgs', '-c=f', 'ls'], 'ctl pkgs ls', { endpoint: 'http://a', config: 'f' }, []],
  [['ctl', 'pkgs', 'ls', '-vpCv'], 'ctl pkgs ls', { verbose: 2, planned: true, color: true }, []],
  [['ctl', 'pkgs', 'ls', '-vH', 'ctl'], 'ctl pkgs ls', { verbose: 1, endpoint: 'ctl' }, []],
  [['ctl', 'pkgs', 'ls', '--suite', 'a', '--component=b'], 'ctl pkgs ls', { component: ['a', 'b'] }, []],
  [['ctl', 'pkgs', 'ls', '--status', 'good'], 'ctl pkgs ls', { status: 'GOOD' }, []],
  [['ctl', 'pkgs', 'ls', '--version', '1', '--version', '2'], 'ctl pkgs ls', { version: '2' }, []],
  [['ctl', 'pkgs', 'ls', '--version', ''], 'ctl pkgs ls', { version: '' }, []],
  [['ctl', 'pkgs', 'ls', '--version=--json'], 'ctl pkgs ls', { version: '--json' }, []],
  [['ctl', 'pkgs', 'ls', '--', '--json'], 'ctl pkgs ls', {}, ['--json']],
  [['ctl', 'queue', 'push', 'd', 'c', '--priority', '-5'], 'ctl queue push', { priority: -5 }, ['d', 'c']],
  [['ctl', 'queue', 'push', 'ctl', 'pkgs', 'ls'], 'ctl queue push', {}, ['ctl', 'pkgs', 'ls']],
  [['ctl', 'queue', 'push', 'd', '-', '', '\u0001x'], 'ctl queue push', {}, ['d', '-', '', '\u0001x']],
  [['worker'], 'worker', {}, []],
  [['worker', '-n', 'build', 'http://a'], 'worker', { name: 'build' }, ['http://a']],
  [['worker', 'build', 'debian', 'u'], 'worker build', {}, ['debian', 'u']],
  [['check', 'a', 'b', '--loud', 'c', '--loud'], 'check', { loud: 2 }, ['a', 'b', 'c']],
] as const) {
  test(`${argv.join(' ')} is ${usage}`, () => {
    const found = read(...argv)

    assert.equal(found.usage, usage)
    assert.deepEqual(found.given, given)
    assert.deepEqual(
      found.positionals.filter((positional) => positional !== undefined),
      positionals,
    )
  })
}

for (const [argv, message, hint] of [
  [['crl'], 'unknown command crl', 'did you mean ctl?'],
  [['ctl', 'pkg', 'ls'], 'unknown command ctl pkg', 'did you mean pkgs?'],
  [['ctl', 'pkgs', 'zzzzzz'], 'unknown command ctl pkgs zzzzzz', 'there are: ls'],
  [['worker', 'buidl', 'debian'], 'unknown command worker buidl', 'did you mean build?'],
  [['ctl', 'pkgs', 'ls', '--jsno'], 'unknown option --jsno', 'did you mean --json?'],
  [['ctl', 'pkgs', 'ls', '-px'], 'unknown option -x', 'see --help'],
  [['ctl', 'pkgs', 'ls', '--json=1'], '--json takes no value', undefined],
  [['ctl', 'pkgs', 'ls', '--version'], '--version needs a value', undefined],
  [
    ['ctl', 'pkgs', 'ls', '--version', '--json'],
    '--version needs a value',
    'if --json is the value, write --version=--json',
  ],
  [['ctl', 'pkgs', 'ls', '-H', '-p'], '-H needs a value', 'if -p is the value, write -H=-p'],
  [['ctl', 'pkgs', 'ls', '--status', 'goood'], '--status cannot be goood', 'it can be: GOOD, BAD'],
  [['ctl', 'pkgs', 'ls', 'a', 'b'], 'unexpected argument b', 'usage: ctl pkgs ls [name]'],
  [
    ['ctl', 'queue', 'push', 'd'],
    'ctl queue push needs <component>',
    'usage: ctl queue push <distro> <component> [name] [version]',
  ],
  [
    ['ctl', 'queue', 'push', 'd', 'c', '--priority', '1.5'],
    '--priority must be a whole number, not 1.5',
    undefined,
  ],
  [
    ['ctl', 'queue', 'push', 'd', 'c', '--priority', '9999999999'],
    '--priority must be between -2147483648 and 2147483647, not 9999999999',
    undefined,
  ],
  [['ctl', 'pkgs', 'ls', '--__proto__=x'], 'unknown option --__proto__', 'see --help'],
] as const) {
  test(`${argv.join(' ')} is refused: ${message}`, () => {
    assert.throws(
      () => parse(argv, commands, {}),
      (error) => {
        assert.ok(error instanceof Complaint)
        assert.equal(error.message, message)
        assert.equal(error.hint, hint)
        assert.equal(error.exitCode, 2)
        return true
      },
    )
  })
}

for (const [argv, words, asked] of [
  [[], [], true],
  [['--help'], [], true],
  [['ctl', 'pkgs'], ['ctl', 'pkgs'], false],
  [['ctl', '--help'], ['ctl'], true],
  [['ctl', 'queue', 'push', '-h'], ['ctl', 'queue', 'push'], true],
  [['ctl', 'queue', 'push', '-vh'], ['ctl', 'queue', 'push'], true],
  [['help', 'ctl', 'queue'], ['ctl', 'queue'], true],
  [['ctl', 'help', 'queue'], ['ctl', 'queue'], true],
] as const) {
  test(`${argv.join(' ') || 'nothing'} gets help, ${asked ? 'as asked' : 'as an error'}`, () => {
    assert.deepEqual(parse(argv, commands, {}), { wants: 'help', words, asked })
  })
}

test('the version is told, but --version with a value is a filter', () => {
  assert.deepEqual(parse(['--version'], commands, {}), { wants: 'version' })
  assert.deepEqual(parse(['ctl', '-V'], commands, {}), { wants: 'version' })
  assert.deepEqual(parse(['serve', '--version'], commands, {}), { wants: 'version' })
  assert.equal(parse(['ctl', 'pkgs', 'ls', '--version', '-1'], commands, {}).wants, 'run')
})

test('an option that was not given is read from its environment variable', () => {
  const found = [{ TOKEN: 'a' }, {}].map((environment) => parse(['serve'], commands, environment))
  const given = parse(['serve', '--token', 'b'], commands, { TOKEN: 'a' })

  const tokens = [...found, given].map((request) => request.wants === 'run' && request.options['token'])
  assert.deepEqual(tokens, ['a', undefined, 'b'])
})

test('no two options of a command share a name, and none begins with no-', async () => {
  for (const { usage, options } of await allCommands()) {
    const table = Object.entries({ ...globalOptions, ...options })
    const names = table.flatMap(([name, option]) => [
      name,
      ...option.aliases,
      ...(option.short === undefined ? [] : [option.short]),
    ])
    assert.equal(new Set(names).size, names.length, usage)
    assert.ok(!names.some((name) => /^no(-|[A-Z])/.test(name)), usage)
  }
})

test('an option has or lacks a value alike in all commands of one word, since it may stand before the next', async () => {
  const arities = new Map<string, boolean>()
  for (const { words, options } of await allCommands()) {
    for (const [name, { kind, short }] of Object.entries(options)) {
      const takesValue = kind !== 'flag' && kind !== 'count'
      for (const one of short === undefined ? [name] : [name, short]) {
        const key = `${words[0]} ${one}`
        assert.equal(arities.get(key) ?? takesValue, takesValue, key)
        arities.set(key, takesValue)
      }
    }
  }
})
