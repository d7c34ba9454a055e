/* A webcam without hardware, for tests: LD_PRELOADed, it answers for one V4L2 device (640x480 YUYV at 30 fps).

   FAKE_WEBCAM_DEVICE  its path, default /dev/video0
   FAKE_WEBCAM_FRAMES  a file of raw YUYV frames that it shows again and again, default a moving bar
   FAKE_WEBCAM_SWITCH  a file: while it is there and holds "unplugged" the device is gone, "frozen": it stays silent
   FAKE_WEBCAM_LOG     a file that gets a line for every format it is asked for: fourcc, width, height

   cc -shared -fPIC -o fake_webcam.so fake_webcam.c -ldl -lpthread */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/videodev2.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { WIDTH = 640, HEIGHT = 480, FPS = 30, BUFFERS = 4, CAMERAS = 16 };
enum { FRAME_BYTES = WIDTH * HEIGHT * 2 };

struct camera { /* one opening of the device */
    int fd, queue[BUFFERS], head, tail;
    unsigned sequence;
    unsigned char *memory;
    struct timespec due;
};
static struct camera cameras[CAMERAS];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static const unsigned char *recording;
static long recorded;

static const char *setting(const char *name, const char *fallback)
{
    const char *value = getenv(name);
    return value && *value ? value : fallback;
}

static int switched_to(const char *word)
{
    const char *path = setting("FAKE_WEBCAM_SWITCH", NULL);
    char content[32] = "";
    FILE *file = path ? fopen(path, "r") : NULL;
    if (!file) return 0;
    size_t n = fread(content, 1, sizeof content - 1, file);
    fclose(file);
    content[n] = 0;
    return !strncmp(content, word, strlen(word));
}

static int is_device(const char *path)
{
    return path && !strcmp(path, setting("FAKE_WEBCAM_DEVICE", "/dev/video0"));
}

static void load_recording(void)
{
    const char *path = setting("FAKE_WEBCAM_FRAMES", NULL);
    int (*real_open)(const char *, int, ...) = dlsym(RTLD_NEXT, "open");
    struct stat info;
    int fd = path && !recording ? real_open(path, O_RDONLY) : -1;
    if (fd < 0) return;
    if (!fstat(fd, &info) && info.st_size >= FRAME_BYTES) {
        recording = mmap(NULL, info.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
        recorded = info.st_size / FRAME_BYTES;
    }
    close(fd);
}

static int open_camera(void)
{
    int slot = 0, fd;
    if (switched_to("unplugged")) { errno = ENOENT; return -1; }
    load_recording();
    pthread_mutex_lock(&lock);
    while (slot < CAMERAS && cameras[slot].memory) slot++;
    fd = slot < CAMERAS ? memfd_create("fake-webcam", 0) : -1;
    if (fd >= 0 && !ftruncate(fd, (long)FRAME_BYTES * BUFFERS)) {
        struct camera *c = &cameras[slot];
        memset(c, 0, sizeof *c);
        c->fd = fd;
        c->memory = mmap(NULL, (long)FRAME_BYTES * BUFFERS, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    }
    pthread_mutex_unlock(&lock);
    return fd;
}

#define OPEN(name)                                                                    \
    int name(const char *path, int flags, ...)                                        \
    {                                                                                 \
        mode_t mode = 0;                                                              \
        if (flags & (O_CREAT | O_TMPFILE)) {                                          \
            va_list rest;                                                             \
            va_start(rest, flags);                                                    \
            mode = va_arg(rest, mode_t);                                              \
            va_end(rest);                                                             \
        }                                                                             \
        if (is_device(path)) return open_camera();                                    \
        return ((int (*)(const char *, int, ...))dlsym(RTLD_NEXT, #name))(path, flags, mode); \
    }
OPEN(open)
OPEN(open64)

int close(int fd)
{
    pthread_mutex_lock(&lock);
    for (int i = 0; i < CAMERAS; i++)
        if (cameras[i].memory && cameras[i].fd == fd) {
            munmap(cameras[i].memory, (long)FRAME_BYTES * BUFFERS);
            cameras[i].memory = NULL;
        }
    pthread_mutex_unlock(&lock);
    return ((int (*)(int))dlsym(RTLD_NEXT, "close"))(fd);
}

static void fill(struct camera *c, unsigned char *to)
{
    if (recording) {
        memcpy(to, recording + (c->sequence % recorded) * (long)FRAME_BYTES, FRAME_BYTES);
        return;
    }
    memset(to, 128, FRAME_BYTES);
    int left = c->sequence * 8 % (WIDTH - 16);
    for (int y = 0; y < HEIGHT; y++)
        for (int x = left; x < left + 16; x++) to[(y * WIDTH + x) * 2] = 255;
}

static int next_frame(struct camera *c, struct v4l2_buffer *b)
{
    while (switched_to("frozen")) usleep(20000);
    if (switched_to("unplugged")) { errno = ENODEV; return -1; }
    if (c->head == c->tail) { errno = EAGAIN; return -1; }
    clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &c->due, NULL);
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    c->due.tv_nsec += 1000000000 / FPS;
    if (c->due.tv_nsec >= 1000000000) { c->due.tv_sec++; c->due.tv_nsec -= 1000000000; }
    if (c->due.tv_sec < now.tv_sec) c->due = now;
    int index = c->queue[c->head++ % BUFFERS];
    fill(c, c->memory + (long)index * FRAME_BYTES);
    memset(b, 0, sizeof *b);
    b->type = V4L2_BUF_TYPE_VIDEO_CAPTURE;
    b->memory = V4L2_MEMORY_MMAP;
    b->index = index;
    b->bytesused = b->length = FRAME_BYTES;
    b->m.offset = index * FRAME_BYTES;
    b->sequence = c->sequence++;
    b->flags = V4L2_BUF_FLAG_TIMESTAMP_MONOTONIC;
    b->timestamp.tv_sec = now.tv_sec;
    b->timestamp.tv_usec = now.tv_nsec / 1000;
    return 0;
}

static void describe(struct v4l2_pix_format *p)
{
    memset(p, 0, sizeof *p);
    p->width = WIDTH;
    p->height = HEIGHT;
    p->pixelformat = V4L2_PIX_FMT_YUYV;
    p->field = V4L2_FIELD_NONE;
    p->bytesperline = WIDTH * 2;
    p->sizeimage = FRAME_BYTES;
    p->colorspace = V4L2_COLORSPACE_SRGB;
}

static int set_format(struct v4l2_format *f)
{
    const char *path = setting("FAKE_WEBCAM_LOG", NULL);
    FILE *file = path ? fopen(path, "a") : NULL;
    if (file) {
        fprintf(file, "%.4s %u %u\n", (const char *)&f->fmt.pix.pixelformat, f->fmt.pix.width, f->fmt.pix.height);
        fclose(file);
    }
    describe(&f->fmt.pix);
    return 0;
}

static int answer(struct camera *c, unsigned request, void *p)
{
    switch (request) {
    case VIDIOC_QUERYCAP: {
        struct v4l2_capability *capability = p;
        memset(capability, 0, sizeof *capability);
        strcpy((char *)capability->driver, "fake");
        strcpy((char *)capability->card, "Fake webcam");
        capability->device_caps = V4L2_CAP_VIDEO_CAPTURE | V4L2_CAP_STREAMING;
        capability->capabilities = capability->device_caps | V4L2_CAP_DEVICE_CAPS;
        return 0;
    }
    case VIDIOC_G_INPUT: *(int *)p = 0; return 0;
    case VIDIOC_S_INPUT: return 0;
    case VIDIOC_G_FMT: describe(&((struct v4l2_format *)p)->fmt.pix); return 0;
    case VIDIOC_S_FMT: return set_format(p);
    case VIDIOC_G_PARM:
    case VIDIOC_S_PARM: {
        struct v4l2_streamparm *s = p;
        s->parm.capture.capability = V4L2_CAP_TIMEPERFRAME;
        s->parm.capture.timeperframe.numerator = 1;
        s->parm.capture.timeperframe.denominator = FPS;
        return 0;
    }
    case VIDIOC_REQBUFS: {
        struct v4l2_requestbuffers *r = p;
        if (r->count > BUFFERS) r->count = BUFFERS;
        c->head = c->tail = 0;
        return 0;
    }
    case VIDIOC_QUERYBUF: {
        struct v4l2_buffer *b = p;
        if (b->index >= BUFFERS) break;
        b->length = FRAME_BYTES;
        b->m.offset = b->index * FRAME_BYTES;
        return 0;
    }
    case VIDIOC_QBUF: c->queue[c->tail++ % BUFFERS] = ((struct v4l2_buffer *)p)->index; return 0;
    case VIDIOC_DQBUF: return next_frame(c, p);
    case VIDIOC_STREAMON: clock_gettime(CLOCK_MONOTONIC, &c->due); return 0;
    case VIDIOC_STREAMOFF: c->head = c->tail = 0; return 0;
    }
    errno = EINVAL;
    return -1;
}

int ioctl(int fd, unsigned long request, ...)
{
    va_list rest;
    va_start(rest, request);
    void *argument = va_arg(rest, void *);
    va_end(rest);
    for (int i = 0; i < CAMERAS; i++)
        if (cameras[i].memory && cameras[i].fd == fd) return answer(&cameras[i], (unsigned)request, argument);
    return ((int (*)(int, unsigned long, ...))dlsym(RTLD_NEXT, "ioctl"))(fd, request, argument);
}
