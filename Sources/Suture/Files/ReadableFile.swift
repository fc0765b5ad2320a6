// SPDX-License-Identifier: Apache-2.0
import Glibc

/// A file open for reading. Read, not mapped: if somebody shortens the file meanwhile, a read fails
/// with a message, while touching a mapping would kill the process.
final class ReadableFile {
    let path: String
    let size: Int
    private let descriptor: Int32

    /// - Throws: `SutureError.io` where it is missing, not a plain file or not to be read.
    init(path: String) throws {
        guard !path.isEmpty, !path.utf8.contains(0) else {
            throw SutureError.invalidArgument("path is \"\(path)\", expected the name of a file")
        }
        // Without O_NONBLOCK, opening a pipe would wait for a writer.
        let descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
        guard descriptor >= 0 else { throw SutureError.io("cannot read \(path): \(errorText(errno))") }
        var status = stat()
        let found = fstat(descriptor, &status)
        let problem = errno
        guard found == 0, status.st_mode & S_IFMT == S_IFREG else {
            close(descriptor)
            throw SutureError.io("cannot read \(path): \(found == 0 ? "not a plain file" : errorText(problem))")
        }
        self.path = path
        self.descriptor = descriptor
        size = Int(status.st_size)
    }

    deinit { close(descriptor) }

    /// Fills `target` from the bytes at `offset`.
    func read(into target: UnsafeMutableRawBufferPointer, at offset: Int) throws {
        var done = 0
        while done < target.count, let base = target.baseAddress {
            let count = pread(descriptor, base + done, target.count - done, off_t(offset + done))
            if count < 0 {
                if errno == EINTR { continue }
                throw SutureError.io("cannot read \(path): \(errorText(errno))")
            }
            guard count > 0 else {
                throw SutureError.format(
                    "\(path) is cut short: it ends at byte \(offset + done) of \(offset + target.count)")
            }
            done += count
        }
    }

    /// The whole file, if it is not larger than `limit`.
    static func bytes(of path: String, limit: Int) throws -> [UInt8] {
        let file = try ReadableFile(path: path)
        guard file.size <= limit else {
            throw SutureError.format("\(path) has \(file.size) bytes, expected at most \(limit)")
        }
        var bytes = [UInt8](repeating: 0, count: file.size)
        try bytes.withUnsafeMutableBytes { try file.read(into: $0, at: 0) }
        return bytes
    }
}
