import { rmSync } from 'node:fs'
import type { CallArguments, CallResult, ConnectOptions, PurserClient } from '../client/index.ts'
import { connect } from '../client/index.ts'
import { childEnv } from './child-env.ts'
import { DaemonProcess, type ExitStatus, type LaunchOptions, type ReadyLine } from './daemon-process.ts'
import { Guard } from './guard.ts'
import { type Layout, makeLayout, ownLauncher } from './layout.ts'
import { LogLines } from './log-lines.ts'

/** How to start a daemon for a test; everything may be left out. */
export type StartPurserOptions = {
  /** Settings: an object by tables (`{ cache: { ttl_seconds: 0 } }`) or TOML text. Default: none. */
  config?: string | Readonly<Record<string, unknown>> | undefined
  /** Variables for the daemon, beside a few harmless ones; the test's own environment is not passed on. */
  env?: Readonly<Record<string, string | undefined>> | undefined
  /** The master key: 32 bytes, or their text as the daemon takes it; null passes no key. Default: a random one. */
  masterKey?: string | Uint8Array | null | undefined
  /** More arguments for purserd, such as `--sealed`. */
  args?: readonly string[] | undefined
  /** Derive keys with as little memory as the daemon allows: for suites that store much. Never outside tests. */
  fastKdf?: boolean | undefined
  /** Use this data directory and leave it there afterwards. Default: a new one, removed at `stop`. */
  dataDirectory?: string | undefined
  /** Milliseconds until the daemon must be ready. Default 30,000. */
  readyTimeoutMs?: number | undefined
  /** Another purserd to start. Default: the one of this package. */
  launcher?: string | undefined
}

/** The least `kdf.memory_kib` the daemon takes: Argon2's own minimum. */
const fastKdfMemoryKib = '8'

const readyTimeoutMsDefault = 30_000

/** The daemon promises to drain within 5 s; what takes twice as long is killed. */
const stopTimeoutMs = 10_000

/** A daemon of its own for a test. Made by `startPurser`. */
export class TestPurser implements AsyncDisposable {
  /** The temporary directory around it all, mode 0700. */
  readonly directory: string
  readonly dataDirectory: string
  readonly socketPath: string
  /** The master key as it stands in `masterKeyFile`; null where none was passed. */
  readonly masterKey: string | null
  readonly masterKeyFile: string | null
  readonly #launch: LaunchOptions
  readonly #readyTimeoutMs: number
  readonly #guard: Guard
  readonly #logs = new LogLines()
  readonly #clients = new Set<PurserClient>()
  #daemon: DaemonProcess | null = null
  #pid = 0
  #ready: ReadyLine | null = null
  #rpcClient: Promise<PurserClient> | null = null
  #stopped: Promise<void> | null = null

  private constructor(layout: Layout, launch: LaunchOptions, readyTimeoutMs: number) {
    this.directory = layout.directory
    this.dataDirectory = layout.dataDirectory
    this.socketPath = layout.socketPath
    this.masterKey = layout.masterKey
    this.masterKeyFile = layout.masterKeyFile
    this.#launch = launch
    this.#readyTimeoutMs = readyTimeoutMs
    this.#guard = new Guard(layout.directory)
  }

  /** See `startPurser`. */
  static async start(options: StartPurserOptions = {}): Promise<TestPurser> {
    const { config, masterKey, dataDirectory } = options
    const layout = makeLayout({ config, masterKey, dataDirectory })
    const env = {
      ...(options.fastKdf === true && { PURSER_KDF_MEMORY_KIB: fastKdfMemoryKib }),
      ...options.env,
    }
    const launch = {
      launcher: options.launcher ?? ownLauncher,
      args: daemonArguments(layout, options.args ?? []),
      env: childEnv(layout.directory, env),
      cwd: layout.directory,
    }
    const purser = new TestPurser(layout, launch, options.readyTimeoutMs ?? readyTimeoutMsDefault)
    try {
      await purser.#start()
    } catch (error) {
      await purser.stop()
      throw error
    }
    return purser
  }

  /** Process id of the daemon, after its end still that of the last one. It runs as a child of this process. */
  get pid(): number {
    return this.#pid
  }

  /** The daemon's ready line. */
  get ready(): ReadyLine {
    if (this.#ready === null) throw new Error('the daemon has not been ready yet')
    return this.#ready
  }

  /** The last lines of stdout and stderr, over restarts. */
  logs(): readonly string[] {
    return this.#logs.all()
  }

  /** A new client of this daemon; closed at `stop` at the latest. */
  async client(options: Omit<ConnectOptions, 'socketPath'> = {}): Promise<PurserClient> {
    const client = await connect({ ...options, socketPath: this.socketPath })
    this.#clients.add(client)
    return client
  }

  /** One call on a connection shared by all calls of `rpc`, typed as `client.call`. */
  async rpc<M extends string>(method: M, ...args: CallArguments<M>): Promise<CallResult<M>> {
    this.#rpcClient ??= this.client()
    const pending = this.#rpcClient
    try {
      const client = await pending
      return await client.call(method, ...args)
    } catch (error) {
      // Where connecting failed, the next call tries anew.
      pending.catch(() => {
        if (this.#rpcClient === pending) this.#rpcClient = null
      })
      throw error
    }
  }

  /**
   * Sends a signal that ends the daemon and waits until it has ended (SIGKILL follows after 10 s). `restart` brings
   * it back. For a signal that does not end it use `process.kill(purser.pid, signal)`.
   */
  async kill(signal: NodeJS.Signals = 'SIGKILL'): Promise<ExitStatus> {
    const daemon = this.#daemon
    if (daemon === null) throw new Error('the daemon is not running')
    return daemon.end(signal, stopTimeoutMs)
  }

  /** Ends the daemon by SIGTERM if it runs, and starts it again on the same directory, key and socket. */
  async restart(): Promise<void> {
    if (this.#stopped !== null) throw new Error('this daemon was stopped for good')
    await this.#endDaemon()
    await this.#start()
  }

  /** Closes the clients, ends the daemon by SIGTERM, removes the directory. Safe to call again. */
  stop(): Promise<void> {
    this.#stopped ??= this.#stop()
    return this.#stopped
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.stop()
  }

  async #start(): Promise<void> {
    const daemon = new DaemonProcess(this.#launch, this.#logs)
    this.#daemon = daemon
    if (daemon.pid !== undefined) {
      this.#pid = daemon.pid
      this.#guard.watch(daemon.pid)
    }
    void daemon.exited.then(() => {
      if (this.#daemon !== daemon) return
      this.#daemon = null
      this.#guard.watch(null)
    })
    this.#ready = await daemon.whenReady(this.#readyTimeoutMs)
  }

  async #endDaemon(): Promise<void> {
    const shared = this.#rpcClient
    this.#rpcClient = null
    const daemon = this.#daemon
    if (daemon !== null) await daemon.end('SIGTERM', stopTimeoutMs)
    await shared?.then((client) => client.close()).catch(() => undefined)
  }

  async #stop(): Promise<void> {
    await this.#endDaemon()
    await Promise.all([...this.#clients].map((client) => client.close()))
    rmSync(this.directory, { recursive: true, force: true, maxRetries: 3 })
    this.#guard.release()
  }
}

function daemonArguments(layout: Layout, added: readonly string[]): readonly string[] {
  return [
    '--data-dir',
    layout.dataDirectory,
    '--socket',
    layout.socketPath,
    ...(layout.masterKeyFile === null ? [] : ['--master-key-file', layout.masterKeyFile]),
    ...(layout.configFile === null ? [] : ['--config', layout.configFile]),
    ...added,
  ]
}

/**
 * Starts a real purserd for a test: in a fresh temporary directory (0700) with a socket and a master key of its own,
 * any number side by side. Resolves when it is ready; rejects with StartPurserError (exit code, last log lines)
 * where it does not come up. It ends at `stop`, at the end of an `await using` block, or with this process.
 *
 *     await using purser = await startPurser({ fastKdf: true })
 *     const client = await purser.client()
 *     await client.credentials.store({ userId: 'alice', apiKey: 'key', apiSecret: 'c2VjcmV0' })
 */
export function startPurser(options: StartPurserOptions = {}): Promise<TestPurser> {
  return TestPurser.start(options)
}
