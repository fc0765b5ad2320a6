// SPDX-License-Identifier: Apache-2.0
import CSutureTypes
import Glibc
import Suture

/// This thread's last message: a C string that stays valid until the thread's next failing call.
private let lastErrorKey: pthread_key_t = {
    var key = pthread_key_t()
    pthread_key_create(&key) { free($0) }
    return key
}()

func setLastError(_ message: String) {
    if let old = pthread_getspecific(lastErrorKey) { free(old) }
    pthread_setspecific(lastErrorKey, strdup(message))
}

func lastError() -> UnsafePointer<CChar>? {
    pthread_getspecific(lastErrorKey).map { UnsafePointer($0.assumingMemoryBound(to: CChar.self)) }
}

/// The one place where Swift errors become statuses. Every fallible function of the interface is
/// `boundary { … }`.
func boundary(_ body: () throws -> Void) -> suture_status {
    do {
        try body()
        return SUTURE_OK
    } catch let error as SutureError {
        setLastError(error.message)
        switch error {
        case .invalidArgument: return SUTURE_ERROR_INVALID_ARGUMENT
        case .outOfMemory: return SUTURE_ERROR_OUT_OF_MEMORY
        case .io: return SUTURE_ERROR_IO
        case .format: return SUTURE_ERROR_FORMAT
        case .cancelled: return SUTURE_ERROR_CANCELLED
        case .numerical: return SUTURE_ERROR_NUMERICAL
        case .unsupported: return SUTURE_ERROR_UNSUPPORTED
        case .internal: return SUTURE_ERROR_INTERNAL
        }
    } catch {
        setLastError("internal error, please report it: \(error)")
        return SUTURE_ERROR_INTERNAL
    }
}

// MARK: Arguments

func required<Value>(_ pointer: UnsafePointer<Value>?, _ name: String) throws -> UnsafePointer<Value> {
    guard let pointer else { throw SutureError.invalidArgument("\(name) is NULL, expected a pointer") }
    return pointer
}

func required<Value>(_ pointer: UnsafeMutablePointer<Value>?, _ name: String) throws -> UnsafeMutablePointer<Value> {
    guard let pointer else { throw SutureError.invalidArgument("\(name) is NULL, expected a pointer") }
    return pointer
}

/// A UTF-8 string.
func string(_ pointer: UnsafePointer<CChar>?, _ name: String) throws -> String {
    let pointer = try required(pointer, name)
    guard let text = String(validatingCString: pointer) else {
        throw SutureError.invalidArgument("\(name) is not valid UTF-8")
    }
    return text
}

func progress(_ pointer: UnsafePointer<suture_progress>?) -> Progress {
    guard let pointer, let callback = pointer.pointee.callback else { return .none }
    let context = pointer.pointee.context
    return Progress { done, total in callback(context, done, total) == 0 }
}

/// A struct whose first field is `struct_size`, as the caller knows it: shorter ones (an older
/// header) are completed with `defaults`, longer ones must have zeros beyond what we know.
func config<Value>(_ pointer: UnsafePointer<Value>?, _ name: String, defaults: Value) throws -> Value {
    let raw = UnsafeRawPointer(try required(pointer, name))
    let size = try structSize(raw, name, of: Value.self)
    var value = defaults
    withUnsafeMutableBytes(of: &value) { bytes in
        guard let target = bytes.baseAddress else { return }
        target.copyMemory(from: raw, byteCount: min(size, bytes.count))
    }
    for offset in stride(from: MemoryLayout<Value>.size, to: size, by: 1)
    where raw.load(fromByteOffset: offset, as: UInt8.self) != 0 {
        throw SutureError.unsupported(
            "\(name) has struct_size \(size) and a setting that this version (struct_size \(MemoryLayout<Value>.size)) does not know"
        )
    }
    return value
}

/// Writes a report struct as far as the caller's `struct_size` goes, and leaves that field as it is.
func writeReport<Value>(_ value: Value, to pointer: UnsafeMutablePointer<Value>, _ name: String) throws {
    let raw = UnsafeMutableRawPointer(pointer)
    let size = try structSize(UnsafeRawPointer(raw), name, of: Value.self)
    withUnsafeBytes(of: value) { bytes in
        guard let source = bytes.baseAddress else { return }
        let count = min(size, bytes.count)
        (raw + 8).copyMemory(from: source + 8, byteCount: count - 8)
    }
}

/// Checks `struct_size` before any work is done.
@discardableResult
func structSize<Value>(_ raw: UnsafeRawPointer, _ name: String, of type: Value.Type) throws -> Int {
    let size = raw.loadUnaligned(as: UInt64.self)
    guard size >= 16, size <= 65_536 else {
        throw SutureError.invalidArgument(
            "\(name)->struct_size is \(size), expected sizeof the struct (\(MemoryLayout<Value>.size))")
    }
    return Int(size)
}

// MARK: Matrices

/// Largest number of rows or columns: what BLAS can index.
let sizeLimit = Int(Int32.max)

/// Checks shape, strides and pointer of a caller's matrix; the elements are not looked at.
///
/// - Parameters:
///   - cols: the number of columns it must have, and what that number is (such as "d_in").
///   - rows: likewise.
///   - minimumRows: 1 where an empty matrix makes no sense.
func matrix(
    _ pointer: UnsafePointer<suture_matrix>?, _ name: String, rows: (Int, String)? = nil, cols: (Int, String)? = nil,
    minimumRows: Int = 1
) throws -> MatrixView {
    let value = try required(pointer, name).pointee
    let type: ElementType
    switch value.dtype {
    case SUTURE_FLOAT32: type = .float32
    case SUTURE_FLOAT64: type = .float64
    case SUTURE_FLOAT16: type = .float16
    case SUTURE_BFLOAT16: type = .bfloat16
    default:
        throw SutureError.invalidArgument(
            "\(name).dtype is \(value.dtype.rawValue), expected SUTURE_FLOAT32, _FLOAT64, _FLOAT16 or _BFLOAT16")
    }
    let valueRows = Int(value.rows)
    let valueCols = Int(value.cols)
    guard valueRows >= minimumRows else {
        throw SutureError.invalidArgument("\(name).rows is \(valueRows), expected at least \(minimumRows)")
    }
    guard valueCols >= 1, valueCols <= sizeLimit else {
        throw SutureError.invalidArgument("\(name).cols is \(valueCols), expected 1 to \(sizeLimit)")
    }
    if let (expected, what) = rows, valueRows != expected {
        throw SutureError.invalidArgument("\(name) has \(valueRows) rows, expected \(named(expected, what))")
    }
    if let (expected, what) = cols, valueCols != expected {
        throw SutureError.invalidArgument("\(name) has \(valueCols) columns, expected \(named(expected, what))")
    }
    guard value.row_stride == 0 || value.row_stride >= value.cols else {
        throw SutureError.invalidArgument(
            "\(name).row_stride is \(value.row_stride), expected at least cols = \(valueCols)")
    }
    let stride = value.row_stride == 0 ? valueCols : Int(value.row_stride)
    let (elements, overflowRows) = valueRows.multipliedReportingOverflow(by: stride)
    let (_, overflowBytes) = elements.multipliedReportingOverflow(by: type.byteCount)
    guard !overflowRows, !overflowBytes else {
        throw SutureError.invalidArgument(
            "\(name) is \(valueRows) x \(valueCols) with row_stride \(stride), expected no more than memory can hold")
    }
    guard value.data != nil || valueRows == 0 else {
        throw SutureError.invalidArgument("\(name).data is NULL, expected \(valueRows) x \(valueCols) elements")
    }
    return MatrixView(
        base: value.data.map { UnsafeRawPointer($0) }, rows: valueRows, cols: valueCols,
        // There is no step from a single row to the next: its stride may be any number.
        rowStride: valueRows <= 1 ? valueCols : stride, type: type)
}

/// Several matrices of one width, each with at least one row.
///
/// - Parameters:
///   - name: of the first argument; the second is "shard_count" for "shards", "x_count" for "x".
///   - cols: as for `matrix`; nil: those of the first.
func matrices(
    _ shards: UnsafePointer<suture_matrix>?, _ count: Int64, _ name: String = "shards", cols: (Int, String)? = nil
) throws -> [MatrixView] {
    guard count >= 1, count <= Int64(sizeLimit) else {
        let counted = name == "shards" ? "shard_count" : "\(name)_count"
        throw SutureError.invalidArgument("\(counted) is \(count), expected 1 to \(sizeLimit)")
    }
    guard let shards else {
        throw SutureError.invalidArgument("\(name) is NULL, expected \(count) matrices, \(name)[0] and on")
    }
    let first = try matrix(shards, "\(name)[0]", cols: cols)
    let width = cols ?? (first.cols, "the columns of \(name)[0]")
    return try [first] + (1..<Int(count)).map { try matrix(shards + $0, "\(name)[\($0)]", cols: width) }
}

/// "d_in = 512", and plain "1" for a number that has no name.
private func named(_ number: Int, _ name: String) -> String { name == "\(number)" ? name : "\(name) = \(number)" }

/// A caller's float32 matrix to write results to.
func outputMatrix(
    _ pointer: UnsafePointer<suture_matrix>?, _ name: String, rows: (Int, String), cols: (Int, String)
) throws -> (base: UnsafeMutablePointer<Float>, rowStride: Int) {
    let view = try matrix(pointer, name, rows: rows, cols: cols, minimumRows: 0)
    guard view.type == .float32 else {
        throw SutureError.invalidArgument("\(name).dtype is \(view.type.name), expected float32")
    }
    guard let base = try required(pointer, name).pointee.data else {
        throw SutureError.invalidArgument("\(name).data is NULL, expected \(view.rows) x \(view.cols) elements")
    }
    guard UInt(bitPattern: base) % 4 == 0 else {
        throw SutureError.invalidArgument("\(name).data is not aligned to 4 bytes")
    }
    return (base.assumingMemoryBound(to: Float.self), view.rowStride)
}

/// Refuses NaN and infinity, naming the first one.
func requireFinite(_ view: MatrixView, _ name: String) throws {
    if let bad = view.firstNonFinite(asFloat32: true) {
        throw SutureError.invalidArgument(
            "\(name)[\(bad.row), \(bad.column)] is \(bad.value), expected finite numbers")
    }
}

/// Small weights as an owned matrix, checked to be finite.
func ownedMatrix(
    _ pointer: UnsafePointer<suture_matrix>?, _ name: String, rows: (Int, String)? = nil, cols: (Int, String)? = nil
) throws -> Matrix<Float> {
    let view = try matrix(pointer, name, rows: rows, cols: cols)
    try requireFinite(view, name)
    var result = Matrix<Float>(zeros: view.rows, view.cols)
    result.elements.withUnsafeMutableBufferPointer { target in
        if let base = target.baseAddress { view.read(into: base) }
    }
    return result
}

/// Writes all values to memory of the caller's that has room for them.
func write<Value>(_ values: [Value], to target: UnsafeMutablePointer<Value>) {
    for (i, value) in values.enumerated() { target[i] = value }
}

// MARK: Handles

/// A Swift object behind a C handle. `Handle` is the C struct that stands for it, so that handles
/// of different kinds cannot be mixed up by a C compiler.
class HandleBox {}

func makeHandle<Handle>(_ object: HandleBox, as type: Handle.Type) -> UnsafeMutablePointer<Handle> {
    UnsafeMutableRawPointer(Unmanaged.passRetained(object).toOpaque()).assumingMemoryBound(to: Handle.self)
}

func object<Handle, Object: HandleBox>(_ handle: UnsafePointer<Handle>?, _ name: String, as type: Object.Type) throws
    -> Object
{
    let raw = UnsafeMutableRawPointer(mutating: UnsafeRawPointer(try required(handle, name)))
    guard let object = Unmanaged<HandleBox>.fromOpaque(raw).takeUnretainedValue() as? Object else {
        throw SutureError.invalidArgument("\(name) is not a handle of the expected kind")
    }
    return object
}

func destroyHandle<Handle>(_ handle: UnsafeMutablePointer<Handle>?) {
    guard let handle else { return }
    Unmanaged<HandleBox>.fromOpaque(UnsafeMutableRawPointer(handle)).release()
}
