/** Calls `onLine` with each line that comes on a socket, as text and without its end. */
export function readLines(socket, onLine) {
  let rest = ''
  socket.setEncoding('utf8')
  socket.on('data', (text) => {
    const lines = (rest + text).split('\n')
    rest = lines.pop()
    for (const line of lines) onLine(line)
  })
}
