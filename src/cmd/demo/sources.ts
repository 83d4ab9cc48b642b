/** A source package as the files below its folder; those in `executables` may be run. */
export type SourcePackage = {
  name: string
  version: string
  /** What a person should learn from it. */
  lesson: string
  files: Readonly<Record<string, string>>
  /** Variables of the first build, on the developer's machine; no later build has them. */
  onlyHere: Readonly<Record<string, string>>
}

const version = '1.0'

/** Three packages that stand for what happens to packages: one is fine, one rolls dice, one cannot be built again. */
export const tinySources: readonly SourcePackage[] = [
  tiny('demo-hello', 'gives the same bytes every time', {
    program: "#!/bin/sh\necho 'hello, world'\n",
    build: 'cp program built',
  }),
  tiny('demo-dice', 'puts something random into every build', {
    program: "#!/bin/sh\necho 'the dice say @NUMBER@'\n",
    build: 'sed "s/@NUMBER@/$(od -An -N4 -tx4 /dev/urandom | tr -d " ")/" program > built',
  }),
  tiny('demo-broken', "was built with something that only its developer's machine has", {
    program: "#!/bin/sh\necho 'it works on my machine'\n",
    build: [
      'if [ -z "${SECRET_INGREDIENT-}" ]; then',
      "  echo 'error: the secret ingredient is missing' >&2",
      '  exit 1',
      'fi',
      'cp program built',
    ].join('\n    '),
    onlyHere: { SECRET_INGREDIENT: 'salt' },
  }),
]

type Tiny = { program: string; build: string; onlyHere?: Readonly<Record<string, string>> }

/** A native package without helpers or a compiler (debian.org/doc/debian-policy/ch-source.html). */
function tiny(name: string, lesson: string, { program, build, onlyHere = {} }: Tiny): SourcePackage {
  return {
    name,
    version,
    lesson,
    onlyHere,
    files: {
      program,
      'debian/rules': rules(name, build),
      'debian/control': control(name, lesson),
      'debian/changelog': changelog(name),
      'debian/source/format': '3.0 (native)\n',
    },
  }
}

/** Policy wants a makefile; whatever answers to the targets does as well. */
function rules(name: string, build: string): string {
  return `#!/bin/sh
set -e
case $1 in
  clean)
    rm -rf built debian/${name} debian/files
    ;;
  build | build-arch)
    ${build}
    ;;
  binary | binary-arch)
    "$0" build
    install -D -m 755 built debian/${name}/usr/bin/${name}
    mkdir debian/${name}/DEBIAN
    dpkg-gencontrol -p${name} -Pdebian/${name}
    dpkg-deb --root-owner-group --build debian/${name} ..
    ;;
esac
`
}

function control(name: string, lesson: string): string {
  return `Source: ${name}
Section: misc
Priority: optional
Maintainer: Demo <demo@example.org>
Standards-Version: 4.6.2
Rules-Requires-Root: no

Package: ${name}
Architecture: any
Description: package that ${lesson}
 It is part of a demonstration.
`
}

function changelog(name: string): string {
  return `${name} (${version}) demo; urgency=medium

  * First.

 -- Demo <demo@example.org>  Sun, 03 Mar 2024 12:00:00 +0000
`
}
