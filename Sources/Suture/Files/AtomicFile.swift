// SPDX-License-Identifier: Apache-2.0
import Glibc
import Synchronization

/// A file that appears at its path whole or not at all.
///
/// Bytes go to a temporary file in the same folder; `commit` brings them to the disk and gives the
/// file its name in one step, replacing what was there. Without `commit` the temporary file goes.
public final class AtomicFile {
    public let path: String
    private let temporary: String
    private var descriptor: Int32
    /// Whether the temporary file is ours to remove.
    private var isTemporary = true

    private static let counter = Atomic<Int>(0)

    /// - Throws: `SutureError.io` where the folder cannot be written to.
    public init(path: String) throws {
        guard !path.isEmpty, !path.utf8.contains(0) else {
            throw SutureError.invalidArgument("path is \"\(path)\", expected the name of a file")
        }
        // Not the file's own name with an ending, which could be longer than names may be. Where the
        // name is taken, by a process of the same number in another container or one that was
        // killed, the next is tried: that file is somebody else's.
        let folder = path.lastIndex(of: "/").map { path[...$0] } ?? ""
        var attempt: (name: String, descriptor: Int32, problem: Int32)
        repeat {
            let name = "\(folder).suture-tmp-\(getpid())-\(Self.counter.add(1, ordering: .relaxed).newValue)"
            attempt = (name, open(name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o666), 0)
            if attempt.descriptor < 0 { attempt.problem = errno }
        } while attempt.problem == EEXIST
        guard attempt.descriptor >= 0 else {
            throw SutureError.io("cannot write \(path): \(errorText(attempt.problem))")
        }
        self.path = path
        temporary = attempt.name
        descriptor = attempt.descriptor
    }

    deinit {
        if descriptor >= 0 { close(descriptor) }
        if isTemporary { unlink(temporary) }
    }

    /// Appends `bytes`.
    public func write(_ bytes: UnsafeRawBufferPointer) throws {
        var rest = bytes
        while let base = rest.baseAddress, !rest.isEmpty {
            let written = Glibc.write(descriptor, base, rest.count)
            if written < 0 {
                if errno == EINTR { continue }
                throw SutureError.io("cannot write \(path): \(errorText(errno))")
            }
            rest = UnsafeRawBufferPointer(rebasing: rest[written...])
        }
    }

    public func write(_ text: String) throws {
        try Array(text.utf8).withUnsafeBytes { try write($0) }
    }

    /// Brings the bytes to the disk, so that `commit` is left with giving the name.
    public func finish() throws {
        guard descriptor >= 0 else { return }
        let synced = fsync(descriptor)
        let syncError = errno
        let closed = close(descriptor)
        let closeError = errno
        descriptor = -1
        if synced != 0 { throw SutureError.io("cannot write \(path): \(errorText(syncError))") }
        if closed != 0 { throw SutureError.io("cannot write \(path): \(errorText(closeError))") }
    }

    /// Makes the file appear. Nothing can be written afterwards.
    public func commit() throws {
        try finish()
        guard rename(temporary, path) == 0 else {
            throw SutureError.io("cannot write \(path): \(errorText(errno))")
        }
        isTemporary = false
        // The new name is in the folder, which is a file of its own.
        try syncFolder(folderName(of: path))
    }

    /// Writes a whole text file.
    public static func write(_ text: String, to path: String) throws {
        let file = try AtomicFile(path: path)
        try file.write(text)
        try file.commit()
    }
}

/// The folder part of a path; "." where it has none.
func folderName(of path: String) -> String {
    guard let slash = path.lastIndex(of: "/") else { return "." }
    return slash == path.startIndex ? "/" : String(path[..<slash])
}

/// Makes a folder and those above it that are missing.
func makeFolders(_ path: String) throws {
    guard !path.isEmpty, !path.utf8.contains(0) else {
        throw SutureError.invalidArgument("folder is \"\(path)\", expected the name of a folder")
    }
    if mkdir(path, 0o777) == 0 { return }
    var problem = errno
    if problem == ENOENT {
        let parent = folderName(of: path)
        if parent != path, parent != "." {
            try makeFolders(parent)
            if mkdir(path, 0o777) == 0 { return }
            problem = errno
        }
    }
    var status = stat()
    if problem == EEXIST, stat(path, &status) == 0, status.st_mode & S_IFMT == S_IFDIR { return }
    throw SutureError.io("cannot make the folder \(path): \(errorText(problem))")
}

/// The system's words for an error number, whatever thread asks.
func errorText(_ code: Int32) -> String {
    withUnsafeTemporaryAllocation(of: CChar.self, capacity: 256) { buffer in
        guard let base = buffer.baseAddress, strerror_r(code, base, buffer.count) == 0 else {
            return "error \(code)"
        }
        return String(cString: base)
    }
}
