// SPDX-License-Identifier: Apache-2.0
import Glibc
import Suture
import Testing

/// A folder that goes with the test.
final class TemporaryFolder {
    let path: String

    init() throws {
        let base = getenv("TMPDIR").map { String(cString: $0) } ?? "/tmp"
        var template = Array("\(base)/suture-test-XXXXXX".utf8CString)
        guard mkdtemp(&template) != nil else { throw SutureError.io("no temporary folder") }
        path = template.withUnsafeBufferPointer { $0.baseAddress.map { String(cString: $0) } ?? "" }
    }

    deinit { removeTree(path) }

    func file(_ name: String) -> String { "\(path)/\(name)" }

    var contents: [String] { listFolder(path) }
}

func listFolder(_ path: String) -> [String] {
    guard let folder = opendir(path) else { return [] }
    defer { closedir(folder) }
    var names: [String] = []
    while let entry = readdir(folder) {
        let name = withUnsafePointer(to: &entry.pointee.d_name) {
            $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
        }
        if name != ".", name != ".." { names.append(name) }
    }
    return names.sorted()
}

private func removeTree(_ path: String) {
    for name in listFolder(path) { removeTree("\(path)/\(name)") }
    remove(path)
}

func readBytes(_ path: String) -> [UInt8] {
    guard let file = fopen(path, "rb") else { return [] }
    defer { fclose(file) }
    var bytes = [UInt8](repeating: 0, count: 1 << 20)
    let count = fread(&bytes, 1, bytes.count, file)
    return Array(bytes.prefix(count))
}

func writeBytes(_ bytes: [UInt8], to path: String) {
    guard let file = fopen(path, "wb") else { return }
    fwrite(bytes, 1, bytes.count, file)
    fclose(file)
}

/// A safetensors file made by hand.
func safetensorsBytes(header: String, data: [UInt8]) -> [UInt8] {
    let text = Array(header.utf8)
    return withUnsafeBytes(of: UInt64(text.count).littleEndian) { Array($0) } + text + data
}

private func littleEndian<T>(_ values: [T]) -> [UInt8] { values.withUnsafeBytes { Array($0) } }

private func rejection(_ body: () throws -> Void) -> SutureError? {
    do {
        try body()
        return nil
    } catch { return error as? SutureError }
}

@Suite struct SafetensorsTests {
    @Test func roundTrip() throws {
        let folder = try TemporaryFolder()
        let path = folder.file("a.safetensors")
        let matrix = try FloatMatrix(Matrix<Float>(rows: 2, cols: 3, elements: [1, -2, 0.5, 3e38, 0x1p-149, -0.0]))
        let vector = try FloatMatrix(Matrix<Float>(rows: 1, cols: 3, elements: [7, 8, 9]))
        let texts = [(key: "format", value: "pt"), (key: "json", value: "{\"a\":\"\\u00e9\"}")]
        try Safetensors.write([NamedTensor("m", matrix), NamedTensor("v", vector: vector)], metadata: texts, to: path)
        let file = try SafetensorsReader(path: path)
        #expect(file.entries.map(\.name) == ["m", "v"])
        #expect(file.entries.map(\.shape) == [[2, 3], [3]])
        #expect(file.metadata.text("json") == texts[1].value)
        #expect(try file.matrix("m").matrix.elements.map(\.bitPattern) == matrix.matrix.elements.map(\.bitPattern))
        #expect(try file.matrix("v").matrix == vector.matrix)
        #expect(folder.contents == ["a.safetensors"])
        // The data begins at a multiple of 8.
        #expect((readBytes(path).count - 9 * 4) % 8 == 0)
    }

    /// Nothing is taken for rows that are not there, however long they would be.
    @Test func tensorsWithoutRowsMayHaveAnyWidth() throws {
        let folder = try TemporaryFolder()
        let path = folder.file("a.safetensors")
        let header = #"{"a":{"dtype":"F32","shape":[0,\#(1 << 60)],"data_offsets":[0,0]}}"#
        writeBytes(safetensorsBytes(header: header, data: []), to: path)
        let matrix = try SafetensorsReader(path: path).matrix("a")
        #expect(matrix.rows == 0 && matrix.cols == 1 << 60)
    }

    /// A name that somebody else's temporary file has is left to it, and names may be as long as the
    /// file system lets them.
    @Test func writesBesideTheTemporaryFilesOfOthers() throws {
        let folder = try TemporaryFolder()
        let name = String(repeating: "n", count: 255)
        let probe = try AtomicFile(path: folder.file(name))
        let temporary = try #require(folder.contents.first)
        let last = try #require(temporary.split(separator: "-").last.flatMap { Int($0) })
        let taken = (last + 1...last + 50).map { ".suture-tmp-\(getpid())-\($0)" }
        for other in taken { writeBytes([7], to: folder.file(other)) }
        try AtomicFile.write("text", to: folder.file("file"))
        try probe.write("long")
        try probe.commit()
        #expect(folder.contents == (taken + ["file", name]).sorted())
        #expect(taken.allSatisfy { readBytes(folder.file($0)) == [7] })
    }

    @Test func convertsEveryType() throws {
        let folder = try TemporaryFolder()
        let path = folder.file("a.safetensors")
        var header: [String] = []
        var data: [UInt8] = []
        func add(_ type: String, _ shape: String, _ bytes: [UInt8]) {
            header.append(
                #""\#(type)":{"dtype":"\#(type)","shape":\#(shape),"data_offsets":[\#(data.count),\#(data.count + bytes.count)]}"#
            )
            data += bytes
        }
        add("F64", "[1,2]", littleEndian([1.5, 0.1]))
        add("F32", "[]", littleEndian([Float(2.5)]))
        add("F16", "[2]", littleEndian([UInt16(0x3c00), 0xc100]))
        add("BF16", "[2,1]", littleEndian([UInt16(0x3f80), 0xc020]))
        add("I64", "[1]", littleEndian([Int64(-3)]))
        add("I32", "[2]", littleEndian([Int32(4), -5]))
        add("U8", "[3]", [1, 2, 3])
        add("empty", "[0,4]", [])
        header[7] = header[7].replacing("\"dtype\":\"empty\"", with: "\"dtype\":\"F32\"")
        writeBytes(safetensorsBytes(header: "{" + header.joined(separator: ",") + "}  ", data: data), to: path)
        let file = try SafetensorsReader(path: path)
        #expect(try file.matrix("F64").matrix == Matrix(rows: 1, cols: 2, elements: [1.5, Float(0.1)]))
        #expect(try file.matrix("F32").matrix == Matrix(rows: 1, cols: 1, elements: [2.5]))
        #expect(try file.matrix("F16").matrix == Matrix(rows: 1, cols: 2, elements: [1, -2.5]))
        #expect(try file.matrix("BF16").matrix == Matrix(rows: 2, cols: 1, elements: [1, -2.5]))
        #expect(try file.matrix("I64").matrix == Matrix(rows: 1, cols: 1, elements: [-3]))
        #expect(try file.matrix("I32").matrix == Matrix(rows: 1, cols: 2, elements: [4, -5]))
        #expect(try file.matrix("empty").count == 0)
        let unreadable = rejection { _ = try file.matrix("U8") }
        #expect(
            unreadable
                == .unsupported(
                    "\(path): tensor U8 has elements of type U8, expected one of F64, F32, F16, BF16, I64, I32"))
    }

    @Test func everyTruncationIsRefused() throws {
        let folder = try TemporaryFolder()
        let path = folder.file("a.safetensors")
        let ones = try FloatMatrix(Matrix<Float>(rows: 2, cols: 2, elements: [1, 1, 1, 1]))
        try Safetensors.write([NamedTensor("one", ones), NamedTensor("two", ones)], to: path)
        let whole = readBytes(path)
        for length in 0..<whole.count {
            writeBytes(Array(whole.prefix(length)), to: path)
            guard case .format(let message)? = rejection({ _ = try SafetensorsReader(path: path) }) else {
                Issue.record("\(length) bytes were accepted")
                continue
            }
            #expect(message.hasPrefix("\(path) is cut short: it has "), "\(length): \(message)")
            if length > whole.count - 16 { #expect(message.hasSuffix("; tensor two is incomplete")) }
        }
        writeBytes(whole + [0], to: path)
        #expect(
            rejection { _ = try SafetensorsReader(path: path) }
                == .format("\(path) has 33 bytes of data, expected 32 from its header"))
    }

    @Test(arguments: [
        ("[]", 0, "does not begin with {"), ("{", 0, "not valid JSON"), ("{\"a\":1}", 0, "lacks a dtype"),
        (#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0]}}"#, 4, "lacks a dtype"),
        (#"{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}"#, 4, "lacks a dtype"),
        (#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}}"#, 4, "before it begins"),
        (#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}}"#, 4, "tensor a (2) of type F32 has 4 bytes"),
        (#"{"a":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,0]}}"#, 0, "of type F32 has 0 bytes"),
        (#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}"#, 8, "begins at byte 4 of the data, expected 0"),
        (
            #"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}}"#,
            4, "tensor b begins at byte 0"
        ),
        (
            #"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"F32","shape":[1],"data_offsets":[4,8]}}"#,
            8, "second time"
        ),
        (#"{"__metadata__":[]}"#, 0, "__metadata__ is not"),
        (#"{"__metadata__":{"x":1}}"#, 0, "__metadata__ x is not a text"),
    ])
    func damagedHeadersAreRefused(header: String, data: Int, words: String) throws {
        let folder = try TemporaryFolder()
        let path = folder.file("a.safetensors")
        writeBytes(safetensorsBytes(header: header, data: [UInt8](repeating: 0, count: data)), to: path)
        guard case .format(let message)? = rejection({ _ = try SafetensorsReader(path: path) }) else {
            Issue.record("accepted: \(header)")
            return
        }
        #expect(message.contains(words) && message.contains(path), "\(message)")
    }

    @Test func otherBadFiles() throws {
        let folder = try TemporaryFolder()
        let path = folder.file("a.safetensors")
        #expect(
            rejection { _ = try SafetensorsReader(path: path) } == .io("cannot read \(path): No such file or directory")
        )
        #expect(
            rejection { _ = try SafetensorsReader(path: folder.path) }
                == .io("cannot read \(folder.path): not a plain file"))
        #expect(
            rejection { _ = try SafetensorsReader(path: "") }
                == .invalidArgument("path is \"\", expected the name of a file"))
        mkfifo(path, 0o600)
        #expect(rejection { _ = try SafetensorsReader(path: path) } == .io("cannot read \(path): not a plain file"))
        remove(path)
        writeBytes([UInt8](repeating: 0xff, count: 64), to: path)
        #expect(
            rejection { _ = try SafetensorsReader(path: path) }
                == .format("\(path) is no safetensors file: its header would have 18446744073709551615 bytes"))
        let bad = littleEndian([Float(1), .nan])
        writeBytes(
            safetensorsBytes(header: #"{"a":{"dtype":"F32","shape":[1,2],"data_offsets":[0,8]}}"#, data: bad), to: path)
        let file = try SafetensorsReader(path: path)
        #expect(rejection { _ = try file.matrix("a") } == .format("\(path): a[0, 1] is nan, expected finite numbers"))
        #expect(rejection { _ = try file.matrix("b") } == .format("\(path) has no tensor b; it has a"))
    }

    @Test func aFailedWriteLeavesTheOldFileAndNothingElse() throws {
        let folder = try TemporaryFolder()
        let path = folder.file("a.txt")
        try AtomicFile.write("old", to: path)
        do {
            let file = try AtomicFile(path: path)
            try file.write("half of the n")
            #expect(folder.contents.count == 2)
        }
        #expect(readBytes(path) == Array("old".utf8))
        #expect(folder.contents == ["a.txt"])
        try AtomicFile.write("new", to: path)
        #expect(readBytes(path) == Array("new".utf8))
        let missing = folder.file("no/such/a.txt")
        #expect(
            rejection { try AtomicFile.write("x", to: missing) }
                == .io("cannot write \(missing): No such file or directory"))
        let occupied = folder.file("occupied")
        mkdir(occupied, 0o700)
        #expect(
            rejection { try AtomicFile.write("x", to: occupied) } == .io("cannot write \(occupied): Is a directory"))
        #expect(folder.contents == ["a.txt", "occupied"])
        #expect(rejection { try AtomicFile.write("x", to: "a\0b") } != nil)
    }
}
