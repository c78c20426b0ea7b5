/* Step 05 in C: a thread per connection. cc -O1 -pthread threads.c -o threads && ./threads --port 8080 --root SITE */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char root[PATH_MAX];

static void send_all(int client, const char *bytes, size_t left) {
    while (left > 0) {
        ssize_t sent = write(client, bytes, left);
        if (sent <= 0) return;
        bytes += sent, left -= sent;
    }
}

/* Head and body as one text, so that they leave together. */
static void answer(int client, const char *status, const char *type, const char *body, size_t length, int is_head) {
    char *text = malloc(length + 256);
    int head = sprintf(text, "HTTP/1.1 %s\r\nContent-Type: %s\r\nContent-Length: %zu\r\nConnection: close\r\n\r\n",
                       status, type, length);
    memcpy(text + head, body, length);
    send_all(client, text, head + (is_head ? 0 : length));
    free(text);
}

static const char *type_of(const char *path) {
    const char *dot = strrchr(path, '.');
    if (!dot) return "application/octet-stream";
    if (!strcmp(dot, ".html")) return "text/html; charset=utf-8";
    if (!strcmp(dot, ".css")) return "text/css";
    return strcmp(dot, ".png") ? "application/octet-stream" : "image/png";
}

static void decode(char *text) {
    char *to = text, digits[3] = "";
    for (; *text; text++, to++) {
        if (*text == '%' && text[1] && text[2]) {
            memcpy(digits, text + 1, 2);
            *to = strtol(digits, NULL, 16), text += 2;
        } else {
            *to = *text;
        }
    }
    *to = 0;
}

static void respond(int client, char *head) {
    char method[8], target[9000], path[PATH_MAX + 9100], real[PATH_MAX];
    if (sscanf(head, "%7s %8999s HTTP/1.%*1[01]", method, target) != 2 || target[0] != '/' ||
        (strcmp(method, "GET") && strcmp(method, "HEAD"))) {
        answer(client, "400 Bad Request", "text/plain", "bad\n", 4, 0);
        return;
    }
    target[strcspn(target, "?")] = 0;
    decode(target);
    snprintf(path, sizeof path, "%s%s%s", root, target, target[strlen(target) - 1] == '/' ? "index.html" : "");
    size_t length = strlen(root);
    struct stat status;
    FILE *file = NULL;
    if (realpath(path, real) && !strncmp(real, root, length) && real[length] == '/' && !stat(real, &status) &&
        S_ISREG(status.st_mode))
        file = fopen(real, "rb");
    if (!file) {
        answer(client, "404 Not Found", "text/plain", "not found\n", 10, !strcmp(method, "HEAD"));
        return;
    }
    char *body = malloc(status.st_size + 1);
    size_t read = fread(body, 1, status.st_size, file);
    answer(client, "200 OK", type_of(real), body, read, !strcmp(method, "HEAD"));
    free(body);
    fclose(file);
}

static void *serve(void *argument) {
    int client = (int)(long)argument;
    char head[32768];
    size_t length = 0;
    for (head[0] = 0; !strstr(head, "\r\n\r\n") && length < sizeof head - 1; head[length] = 0) {
        ssize_t came = read(client, head + length, sizeof head - 1 - length);
        if (came <= 0) break;
        length += came;
    }
    if (length > 0) respond(client, head);
    close(client);
    return NULL;
}

int main(int count, char **words) {
    signal(SIGPIPE, SIG_IGN);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(atoi(words[2]))};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int listener = socket(AF_INET, SOCK_STREAM, 0), yes = 1;
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    if (count < 5 || !realpath(words[4], root) || bind(listener, (struct sockaddr *)&address, sizeof address) ||
        listen(listener, 256))
        return 2;
    for (;;) {
        pthread_t thread;
        int client = accept(listener, NULL, NULL);
        if (client < 0) continue;
        if (pthread_create(&thread, NULL, serve, (void *)(long)client)) close(client);
        else pthread_detach(thread);
    }
}
