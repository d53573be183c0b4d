// Written by nbedge. NOT COMPILED HERE: nbedge has no Android SDK; compare with model.json's picture before you ship it.
// Needs com.google.ai.edge.litert:litert 2.x, and the folder's files in the assets.

import android.content.Context
import android.graphics.Bitmap
import com.google.ai.edge.litert.Accelerator
import com.google.ai.edge.litert.CompiledModel
import kotlin.math.abs
import kotlin.math.exp
import kotlin.math.max
import kotlin.math.min
import org.json.JSONArray
import org.json.JSONObject

/** The network of model.json. One thread at a time may use it. */
class Classifier(context: Context) : AutoCloseable {
    private val model = JSONObject(context.assets.open("model.json").bufferedReader().use { it.readText() })
    private val file = model.getJSONArray("files").getJSONObject(0)
    private val entry = file.getJSONArray("inputs").getJSONObject(0)
    private val exit = file.getJSONArray("outputs").getJSONObject(0)
    private val preprocessing = file.getJSONObject("preprocessing")
    private val classes = model.getJSONArray("classes").let { names -> List(names.length()) { names.getString(it) } }

    private val network =
        CompiledModel.create(context.assets, file.getString("file"), CompiledModel.Options(Accelerator.CPU))
    private val inputs = network.createInputBuffers()
    private val outputs = network.createOutputBuffers()

    /** Returns (class, probability), the likeliest first. */
    fun classify(bitmap: Bitmap): List<Pair<String, Double>> {
        val values = outputs(bitmap)
        val shares = if (file.getString("head") == "softmax") values.map { it.toDouble() } else softmax(values)
        return shares.mapIndexed { i, share -> classes.getOrElse(i) { "output $i" } to share }.sortedByDescending { it.second }
    }

    /** Returns the real outputs of the network. */
    fun outputs(bitmap: Bitmap): FloatArray {
        val x = input(bitmap)
        if (entry.getString("dtype") == "float32") inputs[0].writeFloat(x) else inputs[0].writeInt8(quantized(x))
        network.run(inputs, outputs)
        if (exit.getString("dtype") == "float32") return outputs[0].readFloat()
        val scale = exit.getDouble("scale").toFloat()
        val zero = exit.getInt("zero_point")
        return outputs[0].readInt8().map { (integer(it, exit) - zero) * scale }.toFloatArray()
    }

    override fun close() {
        (inputs + outputs).forEach { it.close() }
        network.close()
    }

    /** Returns (pixel / 255 - mean) / std, row by row, the channels of a pixel side by side. */
    private fun input(bitmap: Bitmap): FloatArray {
        val shape = preprocessing.getJSONArray("shape")
        val channels = shape.getInt(0)
        val pixels = Pixels.of(bitmap, channels).resized(shape.getInt(2), shape.getInt(1))
        val mean = preprocessing.getJSONArray("mean").doubles()
        val std = preprocessing.getJSONArray("std").doubles()
        val scale = FloatArray(channels) { (1 / (255 * std[it])).toFloat() }
        val shift = FloatArray(channels) { (-mean[it] / std[it]).toFloat() }
        return FloatArray(pixels.data.size) { pixels.data[it] * scale[it % channels] + shift[it % channels] }
    }

    /** Returns round(x / scale) + zero_point as bytes; those above 127 of uint8 are written as negative ones. */
    private fun quantized(x: FloatArray): ByteArray {
        val scale = entry.getDouble("scale").let { if (it == 0.0) 1f else it.toFloat() }
        val zero = entry.getInt("zero_point")
        val limits = if (entry.getString("dtype") == "uint8") 0..255 else -128..127
        return ByteArray(x.size) { (Math.rint((x[it] / scale).toDouble()).toInt() + zero).coerceIn(limits).toByte() }
    }

    private fun integer(byte: Byte, spec: JSONObject): Int =
        if (spec.getString("dtype") == "uint8") byte.toInt() and 0xff else byte.toInt()

    private fun softmax(values: FloatArray): List<Double> {
        val most = values.max().toDouble()
        val powers = values.map { exp(it - most) }
        return powers.map { it / powers.sum() }
    }
}

/** Pixels row by row, the channels of a pixel side by side; they are resized as Pillow does, with the same integers. */
private class Pixels(val width: Int, val height: Int, val channels: Int, val data: IntArray) {
    /** The integers depend on which comes first; the order is that of Pillow 13. */
    fun resized(wantedWidth: Int, wantedHeight: Int): Pixels =
        if (height > wantedHeight && height - wantedHeight > 2 * (width - wantedWidth)) {
            transposed().resizedRows(wantedHeight).transposed().resizedRows(wantedWidth)
        } else {
            resizedRows(wantedWidth).transposed().resizedRows(wantedHeight).transposed()
        }

    private fun transposed(): Pixels {
        val turned = IntArray(data.size)
        for (y in 0 until height) for (x in 0 until width) for (c in 0 until channels) {
            turned[(x * height + y) * channels + c] = data[(y * width + x) * channels + c]
        }
        return Pixels(height, width, channels, turned)
    }

    /** Bilinear with antialiasing, weights of 22 bits after the point. */
    private fun resizedRows(wanted: Int): Pixels {
        if (wanted == width) return this
        val resized = IntArray(wanted * height * channels)
        val scale = width.toDouble() / wanted
        val support = max(scale, 1.0)
        for (x in 0 until wanted) {
            val centre = (x + 0.5) * scale
            val first = max(0, (centre - support + 0.5).toInt())
            val end = min(width, (centre + support + 0.5).toInt())
            val taps = DoubleArray(end - first) { max(0.0, 1 - abs((it + first - centre + 0.5) * (1 / support))) }
            val total = taps.sum()
            val weights = IntArray(taps.size) { (0.5 + taps[it] / total * (1 shl 22)).toInt() }
            for (y in 0 until height) for (c in 0 until channels) {
                var sum = 1 shl 21
                for (i in weights.indices) sum += data[(y * width + first + i) * channels + c] * weights[i]
                resized[(y * wanted + x) * channels + c] = (sum shr 22).coerceIn(0, 255)
            }
        }
        return Pixels(wanted, height, channels, resized)
    }

    companion object {
        fun of(bitmap: Bitmap, channels: Int): Pixels {
            val colours = IntArray(bitmap.width * bitmap.height)
            bitmap.getPixels(colours, 0, bitmap.width, 0, 0, bitmap.width, bitmap.height)
            val data = IntArray(colours.size * channels) {
                val colour = colours[it / channels]
                val (red, green, blue) = Triple(colour shr 16 and 0xff, colour shr 8 and 0xff, colour and 0xff)
                if (channels == 1) (red * 19595 + green * 38470 + blue * 7471 + 0x8000) shr 16
                else intArrayOf(red, green, blue)[it % channels]
            }
            return Pixels(bitmap.width, bitmap.height, channels, data)
        }
    }
}

private fun JSONArray.doubles() = DoubleArray(length()) { getDouble(it) }
